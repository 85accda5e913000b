"""Clerk's records as the rows that the write statements take."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from clerk_integration.entities import ClerkMembership, ClerkOrganization

Fact = TypeVar("Fact", ClerkOrganization, ClerkMembership)


def organization_rows(organizations: Iterable[ClerkOrganization]) -> list[dict[str, Any]]:
    """Return one row per organization, the newest when one comes twice."""
    newest = _newest(organizations, key=lambda fact: fact.id, version=lambda fact: (fact.updated_at or 0,))
    return [
        {
            "id": fact.id,
            "name": fact.name,
            "slug": fact.slug,
            "image_url": fact.image_url,
            "public_metadata": fact.public_metadata,
            "created_at": fact.created_at,
            "updated_at": fact.updated_at,
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
            "id": fact.id,
            "user_id": fact.user_id,
            "organization_id": fact.organization.id,
            "role": fact.role,
            "created_at": fact.created_at,
            "updated_at": fact.updated_at,
        }
        for fact in newest
    ]


def attempt_markers(memberships: Sequence[ClerkMembership]) -> list[dict[str, str]]:
    """Return the creation attempts that the memberships' organizations say they come from."""
    organizations = {fact.organization.id: fact.organization for fact in memberships}.values()
    marked = [(attempt_marker(organization), organization.id) for organization in organizations]
    return [
        {"marker": str(marker), "organization_id": clerk_org_id}
        for marker, clerk_org_id in marked
        if marker is not None
    ]


def attempt_marker(organization: ClerkOrganization) -> UUID | None:
    """Return the marker of the creation attempt that the organization carries, if any."""
    try:
        return UUID((organization.marker or {})["attempt"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _newest(
    facts: Iterable[Fact],
    *,
    key: Callable[[Fact], Hashable],
    version: Callable[[Fact], tuple[int | str, ...]],
) -> list[Fact]:
    """One fact per key, since a statement may not touch a row twice: the one of the highest version."""
    return list({key(fact): fact for fact in sorted(facts, key=version)}.values())
