"""Say on the page why an action failed, what was kept, and what to do."""

from django import forms

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured, ClerkRejected
from tenants.exceptions import TenantError

NOTHING_CHANGED = "Nothing was changed."
CHECK = "Run the command check_clerk: it names the setting to correct."
KEPT = "What you entered is kept."


def add_failure(form: forms.Form, error: TenantError | ClerkError, *, outcome_unknown: str = "") -> None:
    """Add the error to the field that Clerk has refused, else to the form as a whole."""
    field = error.param if isinstance(error, ClerkRejected) and error.param in form.fields else None
    form.add_error(field, explain(error, outcome_unknown=outcome_unknown))


def explain(error: TenantError | ClerkError, *, outcome_unknown: str = "") -> str:
    """Return what happened, what was kept, and what to do.

    `outcome_unknown` says what to do if Clerk may have carried out the request.
    """
    if isinstance(error, TenantError):
        return str(error)
    message = str(error)
    if error.outcome_unknown and outcome_unknown:
        return f"{message} {outcome_unknown}"
    sentences = [message if message.endswith(".") else f"{message}."]
    if "Nothing was" not in message:
        sentences.append(NOTHING_CHANGED)
    if isinstance(error, ClerkMisconfigured):
        sentences.append(CHECK)
    elif not isinstance(error, ClerkRejected):
        sentences += [KEPT] if "again" in message else ["Confirm again later.", KEPT]
    return " ".join(sentences)
