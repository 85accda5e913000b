"""Set a user's primary tenant."""

from django.db.models import Q

from tenants import signals
from tenants.exceptions import NotAMember, TenantInactive
from tenants.history import change_by
from tenants.mirror import locks
from tenants.models import Membership, Tenant


def set_primary(clerk_user_id: str, tenant: Tenant) -> None:
    """Make the tenant the user's primary. Writes `memberships.is_primary`, of this user only.

    Raise NotAMember if the user has no active membership, TenantInactive if the tenant is not active.
    """
    with change_by(clerk_user_id):
        locks.hold_primaries([clerk_user_id])
        locks.share(organizations=[tenant.clerk_org_id], users=[clerk_user_id])
        move_primary(clerk_user_id, tenant.pk)


def move_primary(clerk_user_id: str, tenant_id: int) -> None:
    """Make the tenant the user's primary; raise the same exceptions as `set_primary`.

    Call it with the user's primary locked. Locks rows in the same order as the mirror's writers.
    """
    concerned = Q(is_primary=True) | Q(tenant_id=tenant_id)
    rows = Membership.objects.filter(concerned, clerk_user_id=clerk_user_id).order_by("tenant_id")
    locked = {row.tenant_id: row for row in rows.select_for_update()}
    membership = locked.get(tenant_id)
    if membership is None or not membership.is_active:
        raise NotAMember("You are not a member of this tenant.")
    tenant = Tenant.objects.get(pk=tenant_id)
    if not tenant.is_active:
        raise TenantInactive(f"This tenant is {tenant.status}; it cannot be your primary.")
    if membership.is_primary:
        return
    Membership.objects.filter(clerk_user_id=clerk_user_id, is_primary=True).update(is_primary=False)
    Membership.objects.filter(pk=membership.pk).update(is_primary=True)
    signals.announce_primary(tenant_id, clerk_user_id)
