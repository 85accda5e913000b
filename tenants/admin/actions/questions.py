"""What the confirmation page of each step says before the step is carried out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenants.admin.actions.forms import DeleteForm, OwnerForm, StepForm, SuspendForm


@dataclass(frozen=True, slots=True)
class Question:
    """The title ("Sync {} from Clerk") and the effects of a step, and the form that asks for its options.

    `outcome_unknown` says what to do if Clerk's reply to a write was lost.
    """

    title: str
    effects: Sequence[str]
    form: type[StepForm] = StepForm
    outcome_unknown: str = ""


QUESTIONS: Mapping[str, Question] = {
    "sync": Question(
        "Sync {} from Clerk",
        [
            "Name, slug, logo, public metadata and members are replaced by those that Clerk has now. Members"
            " that Clerk no longer lists lose access.",
            "Status, suspension reason and members of legacy tenants stay as they are.",
            "If Clerk no longer has the organization, the tenant is recorded as deleted in Clerk: it is"
            " deactivated, and everything local is kept.",
        ],
    ),
    "create_in_clerk": Question(
        "Create {} in Clerk",
        [
            "An organization with the tenant's name and slug is created in Clerk, and the tenant is linked to"
            " it.",
            "The tenant's owner becomes its first member, as admin. The other members stay members here only;"
            " the command migrate_tenants_to_clerk makes them members in Clerk, too.",
            "Unlink undoes the link. The organization then stays in Clerk.",
        ],
        OwnerForm,
        "Clerk may have created the organization. Confirm again in a minute: an organization that exists is"
        " found and linked, and no second one is created.",
    ),
    "unlink": Question(
        "Unlink {}",
        [
            "The tenant becomes a legacy tenant. It keeps its name, its members and all local data.",
            "The organization stays in Clerk, unchanged. A new tenant mirrors it.",
            "Link to organization undoes this.",
        ],
    ),
    "restore": Question(
        "Restore {}",
        [
            "Clerk is asked for the organization. If Clerk has it after all, the tenant gets the status that"
            " it had before it was recorded as deleted, and its members from Clerk.",
            "If Clerk does not have it, nothing is changed. Unlink then makes the tenant a legacy tenant.",
        ],
    ),
    "suspend": Question(
        "Suspend {}",
        [
            "Members lose access. Admins of the tenant still see it, with the reason.",
            "Nothing is changed in Clerk. Reactivate undoes this.",
            "A tenant that is suspended already gets the new reason.",
        ],
        SuspendForm,
    ),
    "deactivate": Question(
        "Deactivate {}",
        [
            "Members lose access. The tenant and everything local are kept.",
            "Nothing is changed in Clerk. Reactivate undoes this.",
        ],
    ),
    "reactivate": Question(
        "Reactivate {}",
        ["Members get access again. The suspension reason is cleared.", "Nothing is changed in Clerk."],
    ),
    "delete": Question(
        "Delete {}",
        [
            "The tenant, its memberships and all rows that belong to it are deleted permanently. This cannot"
            " be undone; to close a tenant and keep it, deactivate it.",
            "A tenant whose organization is still in Clerk is deleted only together with the organization.",
            "The history of changes is kept.",
        ],
        DeleteForm,
        "Clerk may have deleted the organization. Confirm again: the tenant is then deleted here, too.",
    ),
}
