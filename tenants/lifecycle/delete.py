"""Delete a tenant."""

from django.db import transaction

from tenants.mirror import writer
from tenants.models import Tenant


def delete(tenant: Tenant) -> None:
    """Delete the tenant and its memberships for good.

    Its organization, if it has one, must be gone from Clerk already: it is recorded as dead, so that
    no late event brings the tenant back.
    """
    with transaction.atomic():
        writer.take_writers_lock()
        locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if locked.clerk_org_id is not None:
            writer.record_organization_deleted(locked.clerk_org_id)
        locked.delete()
