"""Whether the key is of the Clerk instance that is mirrored here."""

from clerk_integration.conf import JOB_TIMEOUT_SECONDS, clerk_settings
from clerk_integration.instance import get_clerk_instance, known_instance_id
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.exceptions import WrongInstance
from tenants.runs import records


def right_instance() -> str:
    """Ask Clerk whose key CLERK_SECRET_KEY is, and return the instance's id.

    One call. Raise WrongInstance when it is not CLERK_INSTANCE_ID or, where that is not set, not the
    instance that the mirror is known to be of; ClerkError when Clerk cannot be asked.
    """
    with clerk_deadline(JOB_TIMEOUT_SECONDS):
        instance_id = get_clerk_instance().id
    expected, source = _expected()
    if expected not in ("", instance_id):
        raise WrongInstance(
            f"CLERK_SECRET_KEY is of the Clerk instance {instance_id or 'without a name'}, and {source} is"
            f" {expected}. Nothing was changed. Use that instance's key; if this one is right, set"
            f" CLERK_INSTANCE_ID={instance_id}."
        )
    return instance_id


def _expected() -> tuple[str, str]:
    """The instance of this mirror, as far as it is known, and who says so."""
    if clerk_settings.instance_id:
        return clerk_settings.instance_id, "CLERK_INSTANCE_ID"
    learned = known_instance_id()
    if learned:
        return learned, "the stored instance"
    last = records.last_complete()
    return (last.instance_id if last else ""), "that of the last full sync"
