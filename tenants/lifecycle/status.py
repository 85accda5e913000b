"""Suspend, deactivate and reactivate a tenant."""

from typing import Any

from tenants import signals
from tenants.exceptions import OrganizationDeleted, TenantInactive, UnknownTenants
from tenants.history import change_by
from tenants.mirror.rows import values_of
from tenants.models import Tenant

STATUS_COLUMNS = ("status", "suspension_reason")

Status = Tenant.Status


def suspend(tenant: Tenant, *, reason: str, acting_user: Any) -> Tenant:
    """Suspend the tenant; a suspended tenant gets the new reason. Writes `status` and `suspension_reason`.

    Raise OrganizationDeleted if its organization was deleted in Clerk.
    """
    return _set_status(tenant, Status.SUSPENDED, reason, acting_user)


def deactivate(tenant: Tenant, *, acting_user: Any) -> Tenant:
    """Deactivate the tenant: it is kept, and closed to its members. Writes as `suspend`, nothing in Clerk."""
    return _set_status(tenant, Status.DEACTIVATED, "", acting_user)


def reactivate(tenant: Tenant, *, acting_user: Any) -> Tenant:
    """Make the tenant active again. Writes as `suspend`.

    Raise OrganizationDeleted if its organization was deleted in Clerk.
    """
    return _set_status(tenant, Status.ACTIVE, "", acting_user)


def refuse_inactive(tenant: Tenant) -> None:
    """Raise TenantInactive if the tenant is suspended or deactivated."""
    if not tenant.is_active:
        raise TenantInactive(
            f"This tenant is {tenant.status}; only its status can be changed. Nothing was changed."
        )


def lock(tenant: Tenant) -> Tenant:
    """Lock and return the tenant's row; raise UnknownTenants if it was deleted."""
    locked = Tenant.objects.select_for_update().filter(pk=tenant.pk).first()
    if locked is None:
        raise UnknownTenants([tenant.pk])
    return locked


def _set_status(tenant: Tenant, status: Tenant.Status, reason: str, acting_user: Any) -> Tenant:
    with change_by(acting_user):
        locked = lock(tenant)
        if locked.deleted_at is not None and status != Status.DEACTIVATED:
            raise OrganizationDeleted(
                f"{locked.clerk_org_id}, the organization of tenant {locked.pk}, was deleted in Clerk."
                " Nothing was changed. Restore the tenant if Clerk has the organization after all, or unlink"
                " it first."
            )
        before = values_of(locked, STATUS_COLUMNS)
        after = {"status": status.value, "suspension_reason": reason}
        if before != after:
            Tenant.objects.filter(pk=locked.pk).update(**after)
            signals.announce_status(locked.pk, locked.clerk_org_id, before, after)
    tenant.refresh_from_db()
    return tenant
