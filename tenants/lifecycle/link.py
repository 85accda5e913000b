"""Link a tenant to its Clerk organization, and undo a link."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants import signals
from tenants.exceptions import AlreadyLinked, OrganizationDeleted
from tenants.lifecycle.primary import lock_primary
from tenants.mirror import writer
from tenants.mirror.absorb import absorb
from tenants.models import Membership, Tenant, Tombstone


def link(
    tenant: Tenant,
    organization: ClerkOrganization,
    memberships: Sequence[ClerkMembership],
    *,
    listed_at: datetime,
    complete: bool,
) -> Tenant:
    """Give a legacy tenant its organization, absorbing the bare row that a sync has made for it.

    Writes `tenants.clerk_org_id` and, through the mirror, name, slug, logo, metadata and members;
    deletes the absorbed row. Raise AlreadyLinked, OrganizationDeleted or AbsorbRefused; then
    nothing is written.
    """
    with transaction.atomic():
        movable = _lock_primaries_of(organization.id)
        writer.take_writers_lock()
        target, others = _lock_for_link(tenant, organization.id)
        if target.clerk_org_id not in (None, organization.id):
            raise AlreadyLinked(f"Tenant {target.pk} is linked to {target.clerk_org_id}; unlink it first.")
        refuse_deleted(organization.id)
        if target.is_legacy:
            _forget_former_organization(target)
            signals.announce_link(target.pk, organization.id)
        primaries = {user for bare in others for user in absorb(bare, target)}
        Tenant.objects.filter(pk=target.pk).update(clerk_org_id=organization.id)
        writer.write_organization_listing(organization, memberships, listed_at=listed_at, complete=complete)
        members = Membership.objects.filter(tenant=target, clerk_user_id__in=primaries & movable)
        members.update(is_primary=True)
        target.refresh_from_db()
    return target


def unlink(tenant: Tenant) -> Tenant:
    """Make the tenant a legacy tenant again; its organization goes on as a bare row while it lives.

    Writes `tenants` and `memberships`. Own columns stay: a tenant deactivated because its
    organization was deleted stays deactivated until somebody changes that. Nothing happens to a
    tenant that is not linked.
    """
    with transaction.atomic():
        writer.take_writers_lock()
        locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if not locked.is_legacy:
            writer.unlink_tenant(locked)
        tenant.refresh_from_db()
    return tenant


def refuse_deleted(clerk_org_id: str) -> None:
    if Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=clerk_org_id).exists():
        raise OrganizationDeleted(f"{clerk_org_id} was deleted in Clerk; its id never comes back.")


def _lock_primaries_of(clerk_org_id: str) -> set[str]:
    """Lock the primaries of those whose primary the organization's row is; before the writers' lock."""
    flagged = Membership.objects.filter(tenant__clerk_org_id=clerk_org_id, is_primary=True)
    users = sorted(flagged.values_list("clerk_user_id", flat=True))
    for user in users:
        lock_primary(user)
    return set(users)


def _lock_for_link(tenant: Tenant, clerk_org_id: str) -> tuple[Tenant, list[Tenant]]:
    """Lock the tenant's row and the organization's, if that is another one."""
    rows = Tenant.objects.select_for_update().filter(Q(pk=tenant.pk) | Q(clerk_org_id=clerk_org_id))
    locked = {row.pk: row for row in rows.order_by("pk")}
    if tenant.pk not in locked:
        raise AlreadyLinked("This tenant is gone: it was deleted, or absorbed by another one.")
    return locked.pop(tenant.pk), list(locked.values())


def _forget_former_organization(tenant: Tenant) -> None:
    """Clear the stamps of an organization that the tenant had before: another one's are no newer."""
    Tenant.objects.filter(pk=tenant.pk).update(clerk_created_at=None, clerk_updated_at=None)
    Membership.objects.filter(tenant=tenant).update(
        clerk_membership_id=None, clerk_created_at=None, clerk_updated_at=None
    )
