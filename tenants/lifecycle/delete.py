"""Delete a tenant."""

from django.db import transaction

from tenants.lifecycle.link import lock_with_organization
from tenants.mirror import deletions
from tenants.models import Tenant, Tombstone


def delete(tenant: Tenant) -> None:
    """Delete the tenant and its memberships for good.

    The organization of a linked tenant must be deleted in Clerk already: its id is recorded as deleted, so
    that no late event brings the tenant back.
    """
    with transaction.atomic():
        locked = lock_with_organization(tenant)
        if locked.clerk_org_id is not None:
            deletions.record_organization_deleted(locked.clerk_org_id, source=Tombstone.Source.REQUEST)
        locked.delete()
