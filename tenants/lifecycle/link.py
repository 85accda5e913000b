"""Link a tenant to its Clerk organization, and undo a link."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants import signals
from tenants.exceptions import AlreadyLinked, OrganizationDeleted
from tenants.history import change_by
from tenants.lifecycle.status import lock
from tenants.mirror import deletions, locks, writer
from tenants.mirror.absorb import absorb, why_not_absorbed
from tenants.mirror.unlink import forget_organization, unlink_tenant
from tenants.models import Membership, Tenant
from tenants.sql import see_all_tenants


def link(
    tenant: Tenant,
    organization: ClerkOrganization,
    memberships: Sequence[ClerkMembership],
    *,
    listed_at: datetime,
    complete: bool,
    skipped_ids: Sequence[str] = (),
    acting_user: Any,
) -> Tenant:
    """Link a legacy tenant to the organization, and absorb the organization's mirror-only tenant.

    Writes `tenants.clerk_org_id` and, through the mirror, name, slug, logo, metadata and members; deletes the
    absorbed row. Raise AlreadyLinked, OrganizationDeleted or AbsorbRefused; then nothing is written.
    """
    with change_by(acting_user):
        movable = _lock_primaries_of(organization.id)
        locks.hold_organization(organization.id)
        _share_members_of(organization.id, memberships)
        target, others = _lock_for_link(tenant, organization.id)
        if target.clerk_org_id not in (None, organization.id):
            raise AlreadyLinked(f"Tenant {target.pk} is linked to {target.clerk_org_id}; unlink it first.")
        deletions.refuse_deleted(organization.id)
        if target.is_legacy:
            forget_organization(target)
            signals.announce_link(target.pk, organization.id)
        primaries = {user for mirror in others for user in absorb(mirror, target)}
        if target.is_legacy:
            Tenant.objects.filter(pk=target.pk).update(clerk_org_id=organization.id)
        writer.write_organization_listing(
            organization, memberships, listed_at=listed_at, complete=complete, skipped_ids=skipped_ids
        )
        members = Membership.objects.filter(tenant=target, clerk_user_id__in=primaries & movable)
        members.update(is_primary=True)
        target.refresh_from_db()
    return target


def unlink(tenant: Tenant, *, acting_user: Any) -> Tenant:
    """Make the tenant a legacy tenant again.

    If the organization still exists in Clerk, a new mirror-only tenant mirrors it.

    Writes `tenants` and `memberships`. Local columns are kept: a tenant that was deactivated because
    its organization was deleted stays deactivated. A tenant that is not linked is not changed. Raise
    AlreadyLinked if it is not linked to `tenant.clerk_org_id` any more, but to another organization.
    """
    with change_by(acting_user):
        locked = lock_with_organization(tenant)
        if not locked.is_legacy:
            if tenant.clerk_org_id not in (None, locked.clerk_org_id):
                raise AlreadyLinked(
                    f"The link of tenant {locked.pk} has just been changed. Nothing was unlinked. Try again."
                )
            _share_members_of(locked.clerk_org_id)
            unlink_tenant(locked)
        tenant.refresh_from_db()
    return tenant


def refusals_of_link(clerk_org_id: str) -> tuple[Tenant | None, list[str]]:
    """Return the tenant that a link to the organization absorbs, and why the link would be refused.

    For a preview: both may change until the link is made, which checks them again under lock. Write nothing.
    """
    with transaction.atomic():
        see_all_tenants()
        mirror = Tenant.objects.filter(clerk_org_id=clerk_org_id).first()
        reasons = [] if mirror is None else why_not_absorbed(mirror)
        try:
            deletions.refuse_deleted(clerk_org_id)
        except OrganizationDeleted as error:
            reasons = [str(error)]
    return mirror, reasons


def lock_with_organization(tenant: Tenant) -> Tenant:
    """Lock the organization that the tenant is linked to, then the tenant's row, and return the row.

    Raise UnknownTenants if the tenant was deleted.
    """
    while True:
        savepoint = transaction.savepoint()
        clerk_org_id = Tenant.objects.filter(pk=tenant.pk).values_list("clerk_org_id", flat=True).first()
        if clerk_org_id is not None:
            locks.hold_organization(clerk_org_id)
        locked = lock(tenant)
        if locked.clerk_org_id == clerk_org_id:
            return locked
        # Release both locks: the lock of the other organization must come before the lock of the row.
        transaction.savepoint_rollback(savepoint)


def _lock_primaries_of(clerk_org_id: str) -> set[str]:
    """Lock the primaries of users whose primary is the organization's tenant, and return these users."""
    flagged = Membership.objects.filter(tenant__clerk_org_id=clerk_org_id, is_primary=True)
    users = set(flagged.values_list("clerk_user_id", flat=True))
    locks.hold_primaries(users)
    return users


def _share_members_of(clerk_org_id: str | None, memberships: Sequence[ClerkMembership] = ()) -> None:
    """Block deletions of the members until the transaction ends. Call it before their rows are read."""
    stored = Membership.objects.filter(tenant__clerk_org_id=clerk_org_id)
    users = {membership.user_id for membership in memberships}
    locks.share(users=users.union(stored.values_list("clerk_user_id", flat=True)))


def _lock_for_link(tenant: Tenant, clerk_org_id: str) -> tuple[Tenant, list[Tenant]]:
    """Lock and return the tenant's row, and any other tenant's row that is linked to the organization."""
    rows = Tenant.objects.select_for_update().filter(Q(pk=tenant.pk) | Q(clerk_org_id=clerk_org_id))
    locked = {row.pk: row for row in rows.order_by("pk")}
    if tenant.pk not in locked:
        raise AlreadyLinked(
            f"Tenant {tenant.pk} does not exist any more: it was deleted or absorbed by another tenant."
        )
    return locked.pop(tenant.pk), list(locked.values())
