"""Refuse a key of a Clerk instance other than the mirrored one, before anything is written."""

from clerk_integration.conf import JOB_TIMEOUT_SECONDS, clerk_settings
from clerk_integration.exceptions import WrongInstance
from clerk_integration.instance import (
    ADOPT,
    get_clerk_instance,
    instance_of_key,
    refuse_other_instance,
    store_instance,
    stored_instance_id,
)
from clerk_integration.models import LearnedInstance
from clerk_integration.organizations import get_clerk_orgs
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.ids import ORGANIZATION, is_id
from tenants.models import Tenant

SAMPLE = 50
"""The number of mirrored organizations to request from Clerk."""

FEW = 5
"""Up to this number, all mirrored organizations may be missing from the right instance."""


def require_own_instance() -> str:
    """Return the key's instance, if this database belongs to it; otherwise raise WrongInstance.

    If no instance is stored, request a sample of the mirrored organizations and store the key's instance.
    Costs one statement, and one request on the process's first use of the key; more until one is stored.
    """
    stored = stored_instance_id()
    refuse_other_instance(stored)
    if stored is None:
        _refuse_foreign_mirror(instance_of_key(), stored)
        store_instance(instance_of_key())
    return instance_of_key()


def right_instance(*, writing: bool = True) -> str:
    """Return the id of CLERK_SECRET_KEY's Clerk instance, if the mirrored organizations belong to it.

    Asks Clerk for a sample of the mirrored organizations (two requests). With `writing`, stores the id
    unless one is stored. Raises ClerkError, and WrongInstance if the mirror is of another instance.
    """
    stored = stored_instance_id()
    with clerk_deadline(JOB_TIMEOUT_SECONDS):
        instance_id = get_clerk_instance().id
        refuse_other_instance(stored, actual=instance_id)
        _refuse_foreign_mirror(instance_id, stored)
    if writing and stored is None:
        store_instance(instance_id)
    return instance_id


def _refuse_foreign_mirror(instance_id: str, stored: str | None) -> None:
    """Raise WrongInstance if Clerk has none of a sample of the mirrored organizations.

    Ignores organizations that are older than the adoption of the instance. If the instance is stored or
    configured, a sample of up to FEW organizations may be missing.
    """
    is_known = instance_id in (stored, clerk_settings.instance_id)
    mirrored = Tenant.objects.filter(clerk_org_id__isnull=False, deleted_at=None)
    for instance in LearnedInstance.objects.filter(adopted_at__isnull=False):
        mirrored = mirrored.filter(created_at__gte=instance.adopted_at)
    ids = mirrored.order_by("?").values_list("clerk_org_id", flat=True)[:SAMPLE]
    sample = [str(clerk_org_id) for clerk_org_id in ids if is_id(clerk_org_id, ORGANIZATION)]
    if not sample or (is_known and len(sample) <= FEW) or get_clerk_orgs(sample):
        return
    raise WrongInstance(
        f"The Clerk instance {instance_id} has none of {len(sample)} organizations that are mirrored here."
        f" {ADOPT}"
    )
