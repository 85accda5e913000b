"""Unlink a tenant from its organization, and mirror the organization in a new tenant."""

from collections.abc import Iterable

from django.db.models import Q

from tenants import signals
from tenants.mirror.rows import MIRRORED_COLUMNS, MIRRORED_MEMBER_COLUMNS, values_of
from tenants.models import Membership, Tenant

# The columns that are NULL in a legacy tenant and in its members.
TENANT_COLUMNS = ("clerk_org_id", "clerk_created_at", "clerk_updated_at", "deleted_at")
MEMBER_COLUMNS = ("clerk_membership_id", "clerk_created_at", "clerk_updated_at")


def unlink_tenant(tenant: Tenant) -> None:
    """Unlink the tenant from its organization: it becomes a legacy tenant with all its members.

    An organization that exists in Clerk stays mirrored, by a new mirror-only tenant with the same members. A
    deleted organization keeps its tombstone. Writes `tenants` and `memberships`; the legacy tenant stays the
    primary of its members. Call it in a transaction that holds the organization's lock.
    """
    mirrored = Tenant.objects.get(pk=tenant.pk)
    members = list(Membership.objects.filter(tenant=tenant, clerk_membership_id__isnull=False))
    forget_organization(tenant)
    signals.announce_unlink(tenant.pk, str(mirrored.clerk_org_id))
    if mirrored.deleted_at is None:
        _insert_mirror_only_tenant(mirrored, members)


def forget_organization(tenant: Tenant) -> None:
    """Set Clerk's ids and times to NULL in the rows of the tenant and its members; write no other row."""
    Membership.objects.filter(_any_of(MEMBER_COLUMNS), tenant=tenant).update(**dict.fromkeys(MEMBER_COLUMNS))
    Tenant.objects.filter(_any_of(TENANT_COLUMNS), pk=tenant.pk).update(**dict.fromkeys(TENANT_COLUMNS))


def _any_of(columns: Iterable[str]) -> Q:
    """Return the condition that one of the columns has a value."""
    return Q(*((f"{column}__isnull", False) for column in columns), _connector=Q.OR)


def _insert_mirror_only_tenant(mirrored: Tenant, members: list[Membership]) -> None:
    tenant = Tenant.objects.create(
        clerk_org_id=mirrored.clerk_org_id,
        last_synced_at=mirrored.last_synced_at,
        **values_of(mirrored, MIRRORED_COLUMNS),
    )
    Membership.objects.bulk_create(
        Membership(
            tenant=tenant,
            clerk_user_id=member.clerk_user_id,
            **values_of(member, MIRRORED_MEMBER_COLUMNS),
        )
        for member in members
    )
    signals.announce_link(tenant.pk, str(tenant.clerk_org_id))
    signals.announce_memberships(
        (tenant.pk, member.clerk_user_id, None, {"role": member.role, "is_active": member.is_active})
        for member in members
    )
