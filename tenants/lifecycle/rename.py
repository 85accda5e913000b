"""Rename a legacy tenant; a linked tenant is renamed in Clerk, and the mirror follows."""

from collections.abc import Mapping
from typing import Any

from tenants import signals
from tenants.exceptions import AlreadyLinked
from tenants.history import change_by
from tenants.lifecycle.status import lock, refuse_inactive
from tenants.mirror.rows import values_of
from tenants.models import Tenant


def rename_legacy(tenant: Tenant, changes: Mapping[str, str], *, acting_user: Any) -> Tenant:
    """Write the legacy tenant's `name` or `slug`, or both.

    Raise TenantInactive, or AlreadyLinked if the tenant was linked in the meantime.
    """
    with change_by(acting_user):
        locked = lock(tenant)
        refuse_inactive(locked)
        if locked.clerk_org_id is not None:
            raise AlreadyLinked(
                f"Tenant {locked.pk} has just been linked to {locked.clerk_org_id}. Nothing was changed."
                " Try again."
            )
        Tenant.objects.filter(pk=locked.pk).update(**changes)
        before = values_of(locked, changes)
        signals.announce_tenants([(locked.pk, None, before, changes)])
    tenant.refresh_from_db()
    return tenant
