"""Name the mirrored columns, and convert Clerk's records to rows."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Model

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants.querysets import LATEST_STAMP

LARGEST_TENANT_ID = 2**63 - 1

MIRRORED_COLUMNS = ("name", "slug", "logo_url", "clerk_metadata", "clerk_created_at", "clerk_updated_at")

MIRRORED_MEMBER_COLUMNS = (
    "clerk_membership_id",
    "role",
    "is_active",
    "clerk_created_at",
    "clerk_updated_at",
    "written_at",
)

Record = TypeVar("Record", ClerkOrganization, ClerkMembership)


def values_of(row: Model, columns: Iterable[str]) -> dict[str, Any]:
    """Return the values of some columns of a row."""
    return {column: getattr(row, column) for column in columns}


def organization_rows(organizations: Iterable[ClerkOrganization]) -> list[dict[str, Any]]:
    """Return one row per organization, from its newest record."""
    newest = _newest(
        organizations, key=lambda record: record.id, version=lambda record: (record.updated_at or 0,)
    )
    return [
        {
            "clerk_org_id": record.id,
            "name": record.name,
            "slug": record.slug,
            "logo_url": record.image_url,
            "clerk_metadata": record.public_metadata,
            "clerk_created_at": _plausible(record.created_at),
            "clerk_updated_at": _plausible(record.updated_at),
            "attempt": None if marker is None else str(marker),
        }
        for record in newest
        for marker in [attempt_marker(record)]
    ]


def membership_rows(memberships: Iterable[ClerkMembership]) -> list[dict[str, Any]]:
    """Return one row per user and organization: the membership that Clerk created last."""
    newest = _newest(
        memberships,
        key=lambda record: (record.organization.id, record.user_id),
        version=lambda record: (record.created_at or 0, record.id, record.updated_at or 0),
    )
    return [
        {
            "clerk_membership_id": record.id,
            "clerk_user_id": record.user_id,
            "clerk_org_id": record.organization.id,
            "role": record.role,
            "clerk_created_at": _plausible(record.created_at),
            "clerk_updated_at": _plausible(record.updated_at),
        }
        for record in newest
    ]


def attempt_marker(organization: ClerkOrganization) -> UUID | None:
    """Return the marker of the creation attempt that the organization carries, if any."""
    if organization.marker is None:
        return None
    try:
        return UUID(organization.marker["attempt"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def tenant_markers(organizations: Iterable[ClerkOrganization]) -> list[dict[str, Any]]:
    """Return a row for each organization that carries the marker of a tenant."""
    return [
        {"clerk_org_id": organization.id, "tenant_id": tenant_id, "installation": installation}
        for organization in organizations
        if organization.marker is not None
        for tenant_id, installation in [_tenant_in_marker(organization.marker)]
        if tenant_id is not None
    ]


def _plausible(stamp: int | None) -> int | None:
    """Return Clerk's stamp, or None (unknown) if it is later than the year 9999."""
    return stamp if stamp is None or stamp <= LATEST_STAMP else None


def _tenant_in_marker(marker: Mapping[str, Any]) -> tuple[int | None, str]:
    tenant_id, installation = marker.get("tenant"), marker.get("installation")
    is_id = isinstance(tenant_id, int) and 0 < tenant_id <= LARGEST_TENANT_ID
    return (tenant_id if is_id else None), str(installation)


def _newest(
    records: Iterable[Record],
    *,
    key: Callable[[Record], Hashable],
    version: Callable[[Record], tuple[int | str, ...]],
) -> list[Record]:
    """Keep the newest record of each key: an upsert must not write a row twice."""
    records = list(records)
    newest = {key(record): record for record in records}
    if len(newest) < len(records):
        newest = {key(record): record for record in sorted(records, key=version)}
    return list(newest.values())
