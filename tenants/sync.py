"""The only writer of mirrored columns, tombstones included.

Facts from Clerk arrive by webhook, by a fetch and by listings, in any order and more than once.
The rules that make the order irrelevant stand inside the statements, where no caller can forget them:

* a row is updated only by a fact that is not older (`clerk_updated_at`, Clerk's own stamp) and only
  when something differs; equal stamps re-apply, which heals;
* an id in `tombstones` is never written again;
* of two memberships of one user in one organization the one that Clerk created later wins.

Whoever writes facts holds the writers' lock shared, whoever buries an id holds it alone: without it
a statement that began before the burial could still insert the dead id after it.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants import statements
from tenants.models import Tombstone

Fact = TypeVar("Fact", ClerkOrganization, ClerkMembership)

WRITERS_LOCK = 0x636C6B01
"""Key of the advisory lock between writers (shared) and burials (alone); any constant of ours will do."""


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows a write created and how many it changed; the rest stood as they were."""

    created: int = 0
    updated: int = 0


def clock() -> datetime:
    """The database's clock, which dates every `written_at`; read it before a listing begins."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def share_writers_lock() -> None:
    """Keep burials away until the end of the open transaction; take it before any row is locked."""
    _execute("SELECT pg_advisory_xact_lock_shared(%(key)s)", key=WRITERS_LOCK)


def take_writers_lock() -> None:
    """Keep burials and all other writers away until the end of the open transaction."""
    _execute("SELECT pg_advisory_xact_lock(%(key)s)", key=WRITERS_LOCK)


def write_organizations(organizations: Iterable[ClerkOrganization]) -> Written:
    """Mirror organizations: insert the new ones, update those that the facts are not older than.

    Writes `tenants` in one statement; rows that would not change, and dead ids, are not touched.
    """
    with transaction.atomic():
        share_writers_lock()
        return _upsert_organizations(organizations)


def write_memberships(memberships: Sequence[ClerkMembership]) -> Written:
    """Mirror memberships together with the organizations nested in them.

    Writes `tenants` and `memberships`, one statement each, in one transaction. A membership whose
    id, user or organization is dead is left out; a membership row of ours without a Clerk id (a
    legacy member, a creator not read back yet) takes on the id.
    """
    with transaction.atomic():
        share_writers_lock()
        _upsert_organizations(membership.organization for membership in memberships)
        return _upsert_memberships(memberships)


def write_user_listing(
    clerk_user_id: str,
    memberships: Sequence[ClerkMembership],
    *,
    lease: UUID,
    listed_at: datetime,
    complete: bool,
) -> None:
    """Mirror the listing of all memberships of one user, and close the user's lease.

    Writes `tenants`, `memberships`, `user_syncs`. Active memberships of the user that Clerk gave an
    id and that are absent from the listing end, unless they were written after `listed_at` (the
    database's clock when the listing began), the listing is not `complete`, or the lease was lost.
    Creation attempts of the user whose marker is on a listed organization are resolved.
    """
    with transaction.atomic():
        share_writers_lock()
        _upsert_organizations(membership.organization for membership in memberships)
        _upsert_memberships(memberships)
        _execute(
            statements.FINISH_USER_LISTING,
            user_id=clerk_user_id,
            lease=lease,
            listed_at=listed_at,
            listed=[membership.id for membership in memberships],
            markers=json.dumps(_markers(memberships)),
            retire=complete,
        )


def write_organization_listing(
    organization: ClerkOrganization,
    memberships: Sequence[ClerkMembership],
    *,
    listed_at: datetime,
    complete: bool,
) -> None:
    """Mirror one organization and the listing of all its memberships.

    Writes `tenants` and `memberships`, and marks the tenant as synced now. Members that Clerk gave
    an id and that are absent end, under the same conditions as in `write_user_listing`; legacy
    members are left alone.
    """
    with transaction.atomic():
        share_writers_lock()
        _upsert_organizations([organization])
        _upsert_memberships(memberships)
        if complete:
            _execute(
                statements.RETIRE_ABSENT_MEMBERS,
                organization_id=organization.id,
                listed=[membership.id for membership in memberships],
                listed_at=listed_at,
            )
        _execute(statements.TOUCH_ORGANIZATION, clerk_id=organization.id)


def bury_organization(clerk_org_id: str) -> None:
    """Record that the organization is dead in Clerk.

    Writes `tombstones` even when no row was ever seen; the tenant, if there is one, becomes
    `deactivated` with `deleted_at`, and its memberships inactive. Everything local is kept.
    """
    with transaction.atomic():
        _bury(Tombstone.Kind.ORGANIZATION, clerk_org_id)
        _execute(statements.RETIRE_ORGANIZATION, clerk_id=clerk_org_id)


def bury_user(clerk_user_id: str) -> None:
    """Record that the user is dead in Clerk: mirrored memberships end, later ones never begin.

    Writes `tombstones` and `memberships`. Members of legacy tenants are left alone.
    """
    with transaction.atomic():
        _bury(Tombstone.Kind.USER, clerk_user_id)
        _execute(statements.RETIRE_USER, clerk_id=clerk_user_id)


def bury_membership(membership: ClerkMembership) -> None:
    """Record that the membership ended in Clerk; a newer membership of the same user stays.

    Writes `tombstones` even when the membership was never seen, and the `memberships` row.
    """
    with transaction.atomic():
        _bury(Tombstone.Kind.MEMBERSHIP, membership.id)
        _execute(
            statements.RETIRE_MEMBERSHIP,
            clerk_id=membership.id,
            role=membership.role,
            created_at=membership.created_at,
            updated_at=membership.updated_at,
            organization_id=membership.organization.id,
            user_id=membership.user_id,
        )


def _upsert_organizations(organizations: Iterable[ClerkOrganization]) -> Written:
    newest = _newest(organizations, key=lambda fact: fact.id, version=lambda fact: (fact.updated_at or 0,))
    return _upsert(
        statements.UPSERT_ORGANIZATIONS,
        [
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
        ],
    )


def _upsert_memberships(memberships: Iterable[ClerkMembership]) -> Written:
    newest = _newest(
        memberships,
        key=lambda fact: (fact.organization.id, fact.user_id),
        version=lambda fact: (fact.created_at or 0, fact.id, fact.updated_at or 0),
    )
    return _upsert(
        statements.UPSERT_MEMBERSHIPS,
        [
            {
                "id": fact.id,
                "user_id": fact.user_id,
                "organization_id": fact.organization.id,
                "role": fact.role,
                "created_at": fact.created_at,
                "updated_at": fact.updated_at,
            }
            for fact in newest
        ],
    )


def _upsert(statement: str, facts: list[dict[str, Any]]) -> Written:
    """Run an upsert whose RETURNING says, per written row, whether it was inserted."""
    if not facts:
        return Written()
    with connection.cursor() as cursor:
        cursor.execute(statement, {"facts": json.dumps(facts)})
        inserted = [row[0] for row in cursor.fetchall()]
    return Written(created=sum(inserted), updated=len(inserted) - sum(inserted))


def _newest(
    facts: Iterable[Fact],
    *,
    key: Callable[[Fact], Hashable],
    version: Callable[[Fact], tuple[int | str, ...]],
) -> list[Fact]:
    """One fact per key, since a statement may not touch a row twice: the one of the highest version."""
    return list({key(fact): fact for fact in sorted(facts, key=version)}.values())


def _markers(memberships: Sequence[ClerkMembership]) -> list[dict[str, str]]:
    """The creation attempts that listed organizations say they come from."""
    found = []
    for organization in {fact.organization.id: fact.organization for fact in memberships}.values():
        marker = attempt_marker(organization)
        if marker is not None:
            found.append({"marker": str(marker), "organization_id": organization.id})
    return found


def attempt_marker(organization: ClerkOrganization) -> UUID | None:
    """The marker of the creation attempt that the organization carries, if any."""
    try:
        return UUID((organization.marker or {})["attempt"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _bury(kind: Tombstone.Kind, clerk_id: str) -> None:
    take_writers_lock()
    _execute(statements.BURY, kind=kind, clerk_id=clerk_id)


def _execute(statement: str, **parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
