"""Record deletions in Clerk as tombstones, and remove the tombstone of an organization that exists."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce

from clerk_integration.entities import ClerkMembership
from tenants import signals
from tenants.exceptions import OrganizationDeleted
from tenants.mirror import locks, statements
from tenants.mirror.rows import MIRRORED_MEMBER_COLUMNS, membership_rows
from tenants.mirror.writer import clock
from tenants.models import Membership, Tenant, Tombstone
from tenants.sql import query

RESTORABLE_AFTER = timedelta(seconds=60)
"""For this time after a deletion, Clerk may still return the deleted organization."""


def record_organization_deleted(clerk_org_id: str, *, source: Tombstone.Source) -> None:
    """Record that the organization was deleted in Clerk, as reported by `source`.

    Writes `tombstones`, even if the organization has no row here. Its tenant becomes `deactivated` and gets
    `deleted_at`; its memberships become inactive. No row is deleted.
    """
    with transaction.atomic():
        locks.hold_organization(clerk_org_id)
        _record_tombstone(Tombstone.Kind.ORGANIZATION, clerk_org_id, source)
        for tenant in Tenant.objects.select_for_update().filter(clerk_org_id=clerk_org_id):
            if tenant.deleted_at is None:
                _retire(tenant)
            ended = query(statements.END_MEMBERSHIPS_OF_TENANT, tenant=tenant.pk)
            signals.announce_memberships(ended)


def record_user_deleted(clerk_user_id: str) -> None:
    """Record that the user was deleted in Clerk; end mirrored memberships and prevent new ones.

    Writes `tombstones` and `memberships`. Members of legacy tenants are not changed.
    """
    with transaction.atomic():
        locks.hold_user(clerk_user_id)
        _record_tombstone(Tombstone.Kind.USER, clerk_user_id, Tombstone.Source.EVENT)
        signals.announce_memberships(query(statements.END_MEMBERSHIPS_OF_USER, user=clerk_user_id))


def record_membership_deleted(membership_id: str, membership: ClerkMembership | None = None) -> None:
    """Record that the membership was deleted in Clerk; keep a newer membership of the same user.

    Writes `tombstones`, even if the membership has no row here, and `memberships`. Always ends the row with
    this membership id. If `membership` is given, also ends an older membership of the same user in the same
    organization; if it is None, the user and the organization are unknown.
    """
    rows = Q(clerk_membership_id=membership_id)
    if membership is not None:
        rows |= Q(
            tenant__clerk_org_id=membership.organization.id,
            clerk_user_id=membership.user_id,
            began__lt=membership.created_at or 0,
        )
    ended = Membership.objects.alias(began=Coalesce("clerk_created_at", 0)).filter(rows)
    with transaction.atomic():
        _hold_organization_of(membership_id, membership)
        _record_tombstone(Tombstone.Kind.MEMBERSHIP, membership_id, Tombstone.Source.EVENT)
        for row in ended.select_for_update(of=["self"]):
            _end(row, membership)


def remove_tombstone(clerk_org_id: str, *, asked_at: datetime) -> None:
    """Remove the tombstone of an organization that Clerk returned for a request sent at `asked_at`.

    Gives the tenant its earlier status. Begins again the local memberships that ended with the organization;
    the caller writes the memberships from Clerk. Raise OrganizationDeleted if the tombstone was less than
    60 s old at `asked_at`: Clerk's answer may have been stale.
    """
    with transaction.atomic():
        locks.hold_organization(clerk_org_id)
        for tombstone in Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=clerk_org_id):
            age = asked_at - tombstone.created_at
            if age < RESTORABLE_AFTER:
                seconds = max(0, round(age.total_seconds()))
                raise OrganizationDeleted(
                    f"{clerk_org_id} was recorded as deleted {seconds} s ago, and Clerk still has it. Nothing"
                    f" was changed; try again in {RESTORABLE_AFTER.seconds} s."
                )
            for tenant in Tenant.objects.select_for_update().filter(clerk_org_id=clerk_org_id):
                signals.announce_memberships(query(statements.BEGIN_LOCAL_MEMBERSHIPS, tenant=tenant.pk))
                _reopen(tenant, tombstone.status_before or Tenant.Status.ACTIVE.value)
            tombstone.delete()


def refuse_deleted(clerk_org_id: str) -> None:
    """Raise OrganizationDeleted if the organization is recorded as deleted in Clerk."""
    if Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=clerk_org_id).exists():
        raise OrganizationDeleted.recorded(clerk_org_id)


def _record_tombstone(kind: Tombstone.Kind, clerk_id: str, source: Tombstone.Source) -> None:
    """Insert the tombstone, or update the source and time of an existing one."""
    Tombstone.objects.bulk_create(
        [Tombstone(kind=kind, clerk_id=clerk_id, source=source, created_at=clock())],
        update_conflicts=True,
        unique_fields=["kind", "clerk_id"],
        update_fields=["source", "created_at"],
    )


def _hold_organization_of(membership_id: str, membership: ClerkMembership | None) -> None:
    """Block other writers of the membership's organization, or of all organizations if it is unknown."""
    rows = Membership.objects.filter(clerk_membership_id=membership_id)
    stored = rows.values_list("tenant__clerk_org_id", flat=True).first()
    clerk_org_id = stored if membership is None else membership.organization.id
    if clerk_org_id is None:
        locks.hold_all_organizations()
    else:
        locks.hold_organization(clerk_org_id)


def _retire(tenant: Tenant) -> None:
    status = tenant.status
    tenant.status = Tenant.Status.DEACTIVATED
    tenant.deleted_at = tenant.updated_at = tenant.last_synced_at = clock()
    tenant.save(update_fields=["status", "deleted_at", "updated_at", "last_synced_at"])
    Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=tenant.clerk_org_id).update(
        status_before=status
    )
    changes = {"status": (status, tenant.status.value), "deleted_at": (None, tenant.deleted_at)}
    signals.announce_deactivation(tenant.pk, str(tenant.clerk_org_id), changes)


def _reopen(tenant: Tenant, status: str) -> None:
    changes = {"status": (tenant.status, status), "deleted_at": (tenant.deleted_at, None)}
    tenant.status, tenant.deleted_at = status, None
    tenant.updated_at = tenant.last_synced_at = clock()
    tenant.save(update_fields=["status", "deleted_at", "updated_at", "last_synced_at"])
    signals.announce_restore(tenant.pk, str(tenant.clerk_org_id), changes)


def _end(row: Membership, deleted: ClerkMembership | None) -> None:
    """End our row of a deleted membership, with Clerk's times, so that no older record begins it again."""
    before = {"role": row.role, "is_active": row.is_active}
    if deleted is not None:
        [values] = membership_rows([deleted])
        row.clerk_membership_id, row.role = deleted.id, deleted.role
        row.clerk_created_at, row.clerk_updated_at = values["clerk_created_at"], values["clerk_updated_at"]
    row.is_active, row.written_at = False, clock()
    row.save(update_fields=MIRRORED_MEMBER_COLUMNS)
    after = {"role": row.role, "is_active": False}
    signals.announce_memberships([(row.tenant_id, row.clerk_user_id, before, after)])
