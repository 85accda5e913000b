"""Clerk's records as the rows that the write statements take."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from clerk_integration.entities import ClerkMembership, ClerkOrganization

LARGEST_TENANT_ID = 2**63 - 1

Fact = TypeVar("Fact", ClerkOrganization, ClerkMembership)


def organization_rows(organizations: Iterable[ClerkOrganization]) -> list[dict[str, Any]]:
    """Return one row per organization, the newest when one comes twice."""
    newest = _newest(organizations, key=lambda fact: fact.id, version=lambda fact: (fact.updated_at or 0,))
    return [
        {
            "clerk_org_id": fact.id,
            "name": fact.name,
            "slug": fact.slug,
            "logo_url": fact.image_url,
            "clerk_metadata": fact.public_metadata,
            "clerk_created_at": fact.created_at,
            "clerk_updated_at": fact.updated_at,
        }
        for fact in newest
    ]


def membership_rows(memberships: Iterable[ClerkMembership]) -> list[dict[str, Any]]:
    """Return one row per user and organization: of the membership that Clerk created last."""
    newest = _newest(
        memberships,
        key=lambda fact: (fact.organization.id, fact.user_id),
        version=lambda fact: (fact.created_at or 0, fact.id, fact.updated_at or 0),
    )
    return [
        {
            "clerk_membership_id": fact.id,
            "clerk_user_id": fact.user_id,
            "clerk_org_id": fact.organization.id,
            "role": fact.role,
            "clerk_created_at": fact.created_at,
            "clerk_updated_at": fact.updated_at,
        }
        for fact in newest
    ]


def attempt_markers(organizations: Iterable[ClerkOrganization]) -> list[dict[str, str]]:
    """Return the creation attempts that the organizations say they come from."""
    marked = {attempt_marker(organization): organization.id for organization in organizations}
    return [
        {"marker": str(marker), "organization_id": clerk_org_id}
        for marker, clerk_org_id in marked.items()
        if marker is not None
    ]


def attempt_marker(organization: ClerkOrganization) -> UUID | None:
    """Return the marker of the creation attempt that the organization carries, if any."""
    try:
        return UUID((organization.marker or {})["attempt"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def tenant_markers(organizations: Iterable[ClerkOrganization]) -> list[dict[str, Any]]:
    """Return the tenants that organizations say they were made for, one row for each that says so."""
    return [
        {"organization_id": organization.id, "tenant_id": tenant_id, "installation": installation}
        for organization in organizations
        for tenant_id, installation in [_tenant_in_marker(organization.marker or {})]
        if tenant_id is not None
    ]


def _tenant_in_marker(marker: Mapping[str, Any]) -> tuple[int | None, str]:
    tenant_id, installation = marker.get("tenant"), marker.get("installation")
    is_id = isinstance(tenant_id, int) and 0 < tenant_id <= LARGEST_TENANT_ID
    return (tenant_id if is_id else None), str(installation)


def _newest(
    facts: Iterable[Fact],
    *,
    key: Callable[[Fact], Hashable],
    version: Callable[[Fact], tuple[int | str, ...]],
) -> list[Fact]:
    """One fact per key, since a statement may not touch a row twice: the one of the highest version."""
    return list({key(fact): fact for fact in sorted(facts, key=version)}.values())
