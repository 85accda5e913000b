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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.db import IntegrityError, transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants import signals
from tenants.mirror import statements
from tenants.mirror.rows import attempt_markers, membership_rows, organization_rows, tenant_markers
from tenants.models import Membership, Tenant, Tombstone
from tenants.runs import pages
from tenants.sql import execute, query

MIRRORED_COLUMNS = (
    "clerk_org_id",
    "name",
    "slug",
    "logo_url",
    "clerk_metadata",
    "clerk_created_at",
    "clerk_updated_at",
    "last_synced_at",
)
MIRRORED_MEMBER_COLUMNS = (
    "clerk_user_id",
    "clerk_membership_id",
    "role",
    "is_active",
    "clerk_created_at",
    "clerk_updated_at",
)

WRITERS_LOCK = 0x636C6B01
"""Key of the advisory lock between writers (shared) and burials (alone); any constant of ours will do."""


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows a write created and how many it changed; the rest stood as they were."""

    created: int = 0
    updated: int = 0

    @classmethod
    def count(cls, rows: Sequence[Any]) -> "Written":
        """Count the rows that an upsert returned: those without columns from before are new."""
        created = sum(before is None for *_, before, _after in rows)
        return cls(created=created, updated=len(rows) - created)


def clock() -> datetime:
    """The database's clock, which dates every `written_at`; read it before a listing begins."""
    [[now]] = query("SELECT clock_timestamp()")
    return cast("datetime", now)


def share_writers_lock() -> None:
    """Keep burials away until the end of the open transaction; take it before any row is locked."""
    execute(statements.SHARE_WRITERS_LOCK, key=WRITERS_LOCK, marked=[])


def take_writers_lock() -> None:
    """Keep burials and all other writers away until the end of the open transaction."""
    execute(statements.TAKE_WRITERS_LOCK, key=WRITERS_LOCK)


def write_organizations(organizations: Iterable[ClerkOrganization]) -> Written:
    """Mirror organizations: insert the new ones, update those that the facts are not older than.

    Writes `tenants` in one statement; rows that would not change, and dead ids, are not touched.
    """
    with transaction.atomic():
        return _upsert_organizations(organizations)


def write_organization(organization: ClerkOrganization) -> None:
    """Mirror one organization that somebody asked for, and mark its tenant as synced now."""
    with transaction.atomic():
        _upsert_organizations([organization])
        execute(statements.TOUCH_ORGANIZATION, clerk_id=organization.id)


def write_memberships(memberships: Sequence[ClerkMembership], *, as_of: datetime | None = None) -> Written:
    """Mirror memberships together with the organizations nested in them.

    Writes `tenants` and `memberships`, one statement each, in one transaction. A membership whose
    id, user or organization is dead is left out; a membership row of ours without a Clerk id (a
    legacy member, a creator not read back yet) takes on the id. `as_of` is when Clerk said so, by the
    database's clock: a membership that has been seen to end since is not begun again (None: just now).
    """
    with transaction.atomic():
        _upsert_organizations(membership.organization for membership in memberships)
        return _upsert_memberships(memberships, as_of=as_of)


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
    id, or that `write_creator` made, and that are absent from the listing end, unless they were
    written after `listed_at` (the database's clock when the listing began), the listing is not
    `complete`, or the lease was lost. Creation attempts of the user whose marker is on a listed
    organization are resolved.
    """
    organizations = [membership.organization for membership in memberships]
    attempts = attempt_markers(organizations)
    with transaction.atomic():
        markers = tenant_markers(organizations)
        [(*_, is_any_legacy, is_ours)] = query(
            statements.SHARE_WRITERS_LOCK_AND_CLOSE_LEASE,
            key=WRITERS_LOCK,
            marked=[marker["tenant_id"] for marker in markers],
            user_id=clerk_user_id,
            lease=lease,
            listed_at=listed_at,
        )
        _link_and_upsert(organizations, markers if is_any_legacy else [])
        _write_listing(
            statements.WRITE_USER_LISTING,
            memberships,
            as_of=listed_at,
            retire=complete and is_ours,
            user_id=clerk_user_id,
        )
        if attempts:
            execute(statements.SETTLE_CREATIONS_OF_USER, user_id=clerk_user_id, markers=json.dumps(attempts))


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
        _upsert_organizations([organization])
        _write_listing(
            statements.WRITE_ORGANIZATION_LISTING,
            memberships,
            as_of=listed_at,
            retire=complete,
            organization_id=organization.id,
        )
        execute(statements.TOUCH_ORGANIZATION, clerk_id=organization.id)


def write_organization_page(page: pages.RunPage, organizations: Sequence[ClerkOrganization]) -> Written:
    """Mirror a page of a full sync's organizations, and put the page on record with it.

    Writes `tenants` as `write_organizations` does, `sync_runs`, `sync_run_pages`, and the
    `creation_attempts` whose marker the page shows: three statements. Raise SyncLost when another
    process has taken the run over; then nothing is written.
    """
    with transaction.atomic():
        written = _upsert_organizations(organizations)
        markers = attempt_markers(organizations)
        pages.record_organizations(page, created=written.created, updated=written.updated, markers=markers)
    return written


def write_membership_page(page: pages.RunPage, memberships: Sequence[ClerkMembership]) -> Written:
    """Mirror a page of a full sync's memberships, and put the page on record with it.

    Writes `memberships`, `sync_runs`, `sync_run_pages`: three statements. The nested organizations
    were on the run's pages before; one that appeared since is mirrored too, with two more. Raise
    SyncLost when another process has taken the run over; then nothing is written.
    """
    nested = {membership.organization.id: membership.organization for membership in memberships}
    with transaction.atomic():
        [(*_, unknown)] = query(
            statements.SHARE_WRITERS_LOCK_AND_FIND_UNKNOWN, key=WRITERS_LOCK, organizations=list(nested)
        )
        if unknown:
            _upsert_organizations([nested[clerk_org_id] for clerk_org_id in unknown])
        written = _upsert_memberships(memberships, as_of=page.asked_at)
        pages.record_memberships(page, created=written.created, updated=written.updated)
    return written


def write_creator(organization: ClerkOrganization, clerk_user_id: str, role: str) -> None:
    """Mirror the creator of an organization whose membership Clerk could not be asked for.

    Writes a row of `memberships` without Clerk's id, which a later fact brings; it begins when the
    organization did, and ends when a listing does not show the user. Nothing when the user is dead or
    has a row already. To be called in the transaction that writes the organization.
    """
    rows = query(statements.INSERT_CREATOR, organization_id=organization.id, user_id=clerk_user_id, role=role)
    signals.announce_memberships(rows)


def end_memberships(ids: Sequence[int], *, listed_at: datetime) -> int:
    """End memberships that Clerk gave an id and no longer has; return how many.

    Writes `memberships` in one statement. Spared: rows written after `listed_at`, and rows of legacy
    tenants.
    """
    with transaction.atomic():
        share_writers_lock()
        ended = query(statements.END_MEMBERSHIPS, records="[]", ids=list(ids), as_of=listed_at)
        signals.announce_memberships(ended)
    return len(ended)


def record_organization_deleted(clerk_org_id: str) -> None:
    """Record that the organization is dead in Clerk.

    Writes `tombstones` even when no row was ever seen; the tenant, if there is one, becomes
    `deactivated` with `deleted_at`, and its memberships inactive. Everything local is kept.
    """
    with transaction.atomic():
        _record_tombstone(Tombstone.Kind.ORGANIZATION, clerk_org_id)
        for tenant_id, before, after, deleted_at in query(
            statements.RETIRE_ORGANIZATION, clerk_id=clerk_org_id
        ):
            changes = {"status": (before, after), "deleted_at": (None, deleted_at)}
            signals.announce_deactivation(tenant_id, clerk_org_id, changes)
        signals.announce_memberships(query(statements.END_MEMBERSHIPS_OF_ORGANIZATION, clerk_id=clerk_org_id))


def record_user_deleted(clerk_user_id: str) -> None:
    """Record that the user is dead in Clerk: mirrored memberships end, later ones never begin.

    Writes `tombstones` and `memberships`. Members of legacy tenants are left alone.
    """
    with transaction.atomic():
        _record_tombstone(Tombstone.Kind.USER, clerk_user_id)
        signals.announce_memberships(query(statements.END_MEMBERSHIPS_OF_USER, clerk_id=clerk_user_id))


def record_membership_deleted(membership: ClerkMembership) -> None:
    """Record that the membership ended in Clerk; a newer membership of the same user stays.

    Writes `tombstones` even when the membership was never seen, and the `memberships` row.
    """
    with transaction.atomic():
        _record_tombstone(Tombstone.Kind.MEMBERSHIP, membership.id)
        ended = query(
            statements.END_MEMBERSHIP,
            clerk_id=membership.id,
            role=membership.role,
            created_at=membership.created_at,
            updated_at=membership.updated_at,
            organization_id=membership.organization.id,
            user_id=membership.user_id,
        )
        signals.announce_memberships(ended)


def unlink_tenant(tenant: Tenant) -> None:
    """Take the organization away from its tenant, which becomes a legacy tenant with all its members.

    While the organization lives in Clerk it goes on being mirrored, by a bare row with the same
    members; a dead one leaves its tombstone. Writes `tenants` and `memberships`; the members of the
    legacy tenant keep their primary. To be called in a transaction, under the writers' lock alone.
    """
    mirrored = Tenant.objects.get(pk=tenant.pk)
    members = list(Membership.objects.filter(tenant=tenant, clerk_membership_id__isnull=False))
    Membership.objects.filter(tenant=tenant).update(
        clerk_membership_id=None, clerk_created_at=None, clerk_updated_at=None
    )
    Tenant.objects.filter(pk=tenant.pk).update(
        clerk_org_id=None, clerk_created_at=None, clerk_updated_at=None, deleted_at=None
    )
    signals.announce_unlink(tenant.pk, str(mirrored.clerk_org_id))
    if mirrored.deleted_at is None:
        _insert_bare_row(mirrored, members)


def _insert_bare_row(mirrored: Tenant, members: list[Membership]) -> None:
    bare = Tenant.objects.create(**{column: getattr(mirrored, column) for column in MIRRORED_COLUMNS})
    Membership.objects.bulk_create(
        Membership(tenant=bare, **{column: getattr(member, column) for column in MIRRORED_MEMBER_COLUMNS})
        for member in members
    )
    signals.announce_link(bare.pk, str(bare.clerk_org_id))
    signals.announce_memberships(
        (bare.pk, member.clerk_user_id, None, {"role": member.role, "is_active": member.is_active})
        for member in members
    )


def _record_tombstone(kind: Tombstone.Kind, clerk_id: str) -> None:
    take_writers_lock()
    execute(statements.INSERT_TOMBSTONE, kind=kind, clerk_id=clerk_id)


def _link_tenants_with_marker(markers: list[dict[str, Any]]) -> None:
    """Link legacy tenants to the organizations that say, in a marker of ours, that they are theirs.

    An organization that has a row already is left to `link.link`, which absorbs that row.
    """
    try:
        with transaction.atomic():
            linked = query(statements.LINK_TENANTS_WITH_MARKER, markers=json.dumps(markers))
    except IntegrityError:
        return  # Another fact has just made that row.
    for tenant_id, clerk_org_id in linked:
        signals.announce_link(tenant_id, clerk_org_id)


def _upsert_organizations(facts_of_page: Iterable[ClerkOrganization]) -> Written:
    """Take the writers' lock, link what is marked, upsert: two statements, three where some are linked."""
    organizations = list(facts_of_page)
    markers = tenant_markers(organizations)
    marked = [marker["tenant_id"] for marker in markers]
    [(*_, is_any_legacy)] = query(statements.SHARE_WRITERS_LOCK, key=WRITERS_LOCK, marked=marked)
    return _link_and_upsert(organizations, markers if is_any_legacy else [])


def _link_and_upsert(organizations: Sequence[ClerkOrganization], markers: list[dict[str, Any]]) -> Written:
    if markers:
        _link_tenants_with_marker(markers)
    rows = _upsert(statements.UPSERT_ORGANIZATIONS, organization_rows(organizations))
    signals.announce_tenants(rows)
    return Written.count(rows)


def _upsert_memberships(memberships: Iterable[ClerkMembership], *, as_of: datetime | None) -> Written:
    rows = _upsert(statements.UPSERT_MEMBERSHIPS, membership_rows(memberships), as_of=as_of)
    signals.announce_memberships(rows)
    return Written.count(rows)


def _write_listing(
    statement: str, memberships: Sequence[ClerkMembership], *, as_of: datetime, retire: bool, **of: str
) -> None:
    """Write what a listing shows and end what it does not show, in one statement."""
    rows = query(
        statement,
        records=json.dumps(membership_rows(memberships)),
        listed=[membership.id for membership in memberships],
        as_of=as_of,
        retire=retire,
        **of,
    )
    signals.announce_memberships(rows)


def _upsert(statement: str, rows: list[dict[str, Any]], **parameters: Any) -> list[Any]:
    return query(statement, records=json.dumps(rows), **parameters) if rows else []
