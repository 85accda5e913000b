"""Say on the page why an action failed, what was kept, and what to do."""

from django import forms

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured, ClerkRejected
from tenants.exceptions import TenantError

NOTHING_CHANGED = "Nothing was changed."
CHECK = "Run the command check_clerk: it names the setting to correct."
AGAIN = "Confirm again later; what you entered is kept."


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
    if error.outcome_unknown and outcome_unknown:
        return _joined(error, outcome_unknown)
    if isinstance(error, ClerkMisconfigured):
        return _joined(error, NOTHING_CHANGED, CHECK)
    if isinstance(error, ClerkRejected):
        return _joined(error, NOTHING_CHANGED)
    return _joined(error, NOTHING_CHANGED, AGAIN)


def _joined(error: ClerkError, *sentences: str) -> str:
    """Return the error's message and the sentences that it does not contain."""
    message = str(error)
    if not message.endswith((".", "!", "?")):
        message += "."
    return " ".join([message, *(sentence for sentence in sentences if sentence not in message)])
