"""Delete a tenant."""

from django.db import transaction

from tenants.lifecycle.link import lock_with_organization
from tenants.mirror import deletions
from tenants.models import Tenant, Tombstone
from tenants.sql import see_all_tenants


def delete(tenant: Tenant) -> None:
    """Delete the tenant and its memberships permanently.

    Call it after the organization of a linked tenant was deleted in Clerk. Records the organization as
    deleted, so that no late event creates the tenant again.
    """
    with transaction.atomic():
        locked = lock_with_organization(tenant)
        if locked.clerk_org_id is not None:
            deletions.record_organization_deleted(locked.clerk_org_id, source=Tombstone.Source.REQUEST)
        see_all_tenants()
        locked.delete()
