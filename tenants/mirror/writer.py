"""Write Clerk's records into mirrored columns; `deletions` writes tombstones.

Records come from webhooks, fetches and listings, in any order and more than once. These rules make the result
independent of the order. The SQL statements contain them, so that no caller can leave them out:

* a row is updated only by a record that is not older (`clerk_updated_at`, Clerk's own stamp), and only when
  something differs; a record with an equal stamp is written too, which repairs a wrong row;
* a record whose id is in `tombstones` is not written; `deletions.remove_tombstone` ends this;
* of two memberships of one user in one organization, the one that Clerk created later wins.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.db import IntegrityError, transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants import signals
from tenants.exceptions import OrganizationDeleted
from tenants.mirror import locks, statements
from tenants.mirror.rows import membership_rows, organization_rows, tenant_markers
from tenants.models import Membership, SyncRunPage, Tenant, Tombstone
from tenants.runs import pages
from tenants.sql import ClockTimestamp, query, text_array


@dataclass(frozen=True, slots=True)
class Written:
    """The number of rows that a write created, and of rows that it changed."""

    created: int = 0
    updated: int = 0

    @classmethod
    def count(cls, rows: Sequence[Any]) -> "Written":
        """Count the rows that an upsert returned; the earlier columns of a new row are None."""
        created = sum(before is None for *_, before, _after in rows)
        return cls(created=created, updated=len(rows) - created)


def clock() -> datetime:
    """Return the time of the database's clock, like every `written_at`.

    Call it before a listing begins: the listing then does not end rows that are written later.
    """
    [[now]] = query("SELECT clock_timestamp()")
    return cast("datetime", now)


def write_organizations(organizations: Iterable[ClerkOrganization]) -> Written:
    """Mirror organizations: insert the new ones and update those whose records are not older.

    Writes `tenants`, and the `creation_attempts` whose markers the organizations carry. Rows that would not
    change, and organizations that are recorded as deleted, are not touched.
    """
    with transaction.atomic():
        return _write_organizations(organizations)


def write_organization(organization: ClerkOrganization) -> None:
    """Mirror one organization, and record that its tenant was synced now.

    Writes what `write_organizations` does, and `tenants.last_synced_at`.
    """
    with transaction.atomic():
        _write_organizations([organization])
        _touch(organization.id)


def write_memberships(memberships: Sequence[ClerkMembership], *, as_of: datetime | None = None) -> Written:
    """Mirror memberships together with the organizations nested in them.

    Writes `tenants` and `memberships` in one transaction. A membership is left out when its id, its user or
    its organization is recorded as deleted; a row without Clerk's id (of a legacy member, or of a creator
    whose membership was not read from Clerk yet) gets the id. `as_of` is the time of Clerk's answer, by the
    database's clock (None: now): a membership that ended here after `as_of` does not begin again.
    """
    with transaction.atomic():
        _write_organizations(_nested(memberships), users=_users(memberships))
        return _upsert_memberships(memberships, as_of=as_of)


def write_events(
    organizations: Sequence[ClerkOrganization],
    memberships: Sequence[ClerkMembership],
    *,
    as_of: Mapping[str, datetime | None],
) -> None:
    """Mirror the records of many events in one transaction: three statements.

    Writes what `write_memberships` does. `as_of` has the time of each membership's event, by membership id.
    """
    with transaction.atomic(savepoint=False):
        _write_organizations([*organizations, *_nested(memberships)], users=_users(memberships))
        times = {membership_id: at and at.isoformat() for membership_id, at in as_of.items()}
        rows = _upsert(
            statements.UPSERT_MEMBERSHIPS_OF_EVENTS, membership_rows(memberships), as_of=json.dumps(times)
        )
        signals.announce_memberships(rows)


def write_user_listing(
    clerk_user_id: str,
    memberships: Sequence[ClerkMembership],
    *,
    lease: UUID,
    listed_at: datetime,
    complete: bool,
    skipped_ids: Sequence[str] = (),
) -> None:
    """Mirror all memberships of one user, and close the user's lease.

    Writes `tenants`, `memberships`, `user_syncs` and `creation_attempts` (see `write_organizations`). Active
    mirrored memberships of the user that the list lacks end, unless they were written after `listed_at` (the
    database's clock when the listing began), the list is not `complete`, or the lease was lost. Memberships
    in `skipped_ids`, which Clerk listed and we could not read, do not end.
    """
    organizations = _nested(memberships)
    markers = tenant_markers(organizations)
    with transaction.atomic():
        [(_, is_any_legacy, is_ours)] = locks.query_locked(
            statements.SHARE_LOCKS_AND_CLOSE_LEASE,
            organizations=[organization.id for organization in organizations],
            users=[clerk_user_id],
            tenants=[marker["tenant_id"] for marker in markers],
            user_id=clerk_user_id,
            lease=lease,
            listed_at=listed_at,
        )
        _link_and_upsert(organizations, markers if is_any_legacy else [])
        _write_listing(
            statements.WRITE_USER_LISTING,
            memberships,
            skipped_ids,
            as_of=listed_at,
            retire=complete and is_ours,
            user_id=clerk_user_id,
        )


def write_organization_listing(
    organization: ClerkOrganization,
    memberships: Sequence[ClerkMembership],
    *,
    listed_at: datetime,
    complete: bool,
    skipped_ids: Sequence[str] = (),
) -> None:
    """Mirror one organization and all its memberships.

    Writes `tenants` (`last_synced_at` too) and `memberships`. Members that the list lacks end under the same
    conditions as in `write_user_listing`; legacy members are not changed.
    """
    with transaction.atomic():
        _write_organizations([organization], users=_users(memberships))
        _write_listing(
            statements.WRITE_ORGANIZATION_LISTING,
            memberships,
            skipped_ids,
            as_of=listed_at,
            retire=complete,
            organization_id=organization.id,
        )
        _touch(organization.id)


def write_organization_page(page: SyncRunPage, organizations: Sequence[ClerkOrganization]) -> Written:
    """Mirror a page of a full sync's organizations, and record the page.

    Writes what `write_organizations` does, `sync_runs` and `sync_run_pages`: three statements. Raise SyncLost
    if another process has taken over the run; then nothing is written.
    """
    with transaction.atomic():
        written = _write_organizations(organizations)
        pages.record(page, readable=len(organizations), created=written.created, updated=written.updated)
    return written


def write_membership_page(page: SyncRunPage, memberships: Sequence[ClerkMembership]) -> Written:
    """Mirror a page of a full sync's memberships, and record the page.

    Writes `memberships`, `sync_runs` and `sync_run_pages`: three statements. The run has already
    mirrored the nested organizations; new organizations are mirrored too, by two more statements. Raise
    SyncLost if another process has taken over the run; then nothing is written.
    """
    nested = {organization.id: organization for organization in _nested(memberships)}
    with transaction.atomic():
        [(_, unknown)] = locks.query_locked(
            statements.SHARE_LOCKS_AND_FIND_UNKNOWN,
            organizations=text_array(nested),
            users=text_array(_users(memberships)),
        )
        if unknown:
            _write_organizations([nested[clerk_org_id] for clerk_org_id in unknown])
        written = _upsert_memberships(memberships, as_of=page.run.started_at)
        pages.record(page, readable=len(memberships), created=written.created, updated=written.updated)
    return written


def write_organization_with_member(
    organization: ClerkOrganization,
    clerk_user_id: str,
    membership: ClerkMembership | None,
    role: str | None = None,
) -> Tenant:
    """Mirror an organization with one of its members, and return its tenant.

    If `membership` is None (Clerk could not be asked for it), the user gets a membership with `role`, without
    Clerk's id, from the time of the organization's creation. A later record adds the id; a list without the
    user ends the membership. If `role` is None too, no membership is written. Raise OrganizationDeleted if
    the organization is recorded as deleted.
    """
    with transaction.atomic():
        _write_organizations([organization], users=[clerk_user_id])
        tenant = Tenant.objects.filter(clerk_org_id=organization.id, deleted_at=None).first()
        if tenant is None:
            raise OrganizationDeleted.recorded(organization.id)
        if membership is not None:
            _upsert_memberships([membership], as_of=None)
        elif role is not None:
            _insert_creator(tenant, clerk_user_id, role)
    return tenant


def end_memberships(ids: Sequence[int], *, listed_at: datetime) -> int:
    """End memberships that Clerk no longer has, and return how many ended.

    Writes `memberships` in one statement. Rows that were written after `listed_at` and rows of legacy tenants
    are not changed.
    """
    rows = Membership.objects.filter(pk__in=ids).values_list("tenant__clerk_org_id", "clerk_user_id")
    with transaction.atomic():
        locks.share(organizations=[row[0] for row in rows], users=[row[1] for row in rows])
        ended = query(statements.END_MEMBERSHIPS, records="[]", ids=list(ids), as_of=listed_at)
        signals.announce_memberships(ended)
    return len(ended)


def _nested(memberships: Iterable[ClerkMembership]) -> list[ClerkOrganization]:
    return [membership.organization for membership in memberships]


def _users(memberships: Iterable[ClerkMembership]) -> list[str]:
    return [membership.user_id for membership in memberships]


def _write_organizations(organizations: Iterable[ClerkOrganization], *, users: Sequence[str] = ()) -> Written:
    """Take shared locks, link the tenants in markers, upsert: two statements, or three with links."""
    organizations = list(organizations)
    markers = tenant_markers(organizations)
    [(_, is_any_legacy)] = locks.query_locked(
        statements.SHARE_LOCKS,
        organizations=text_array(organization.id for organization in organizations),
        users=text_array(users),
        tenants=[marker["tenant_id"] for marker in markers],
    )
    return _link_and_upsert(organizations, markers if is_any_legacy else [])


def _link_and_upsert(organizations: Sequence[ClerkOrganization], markers: list[dict[str, Any]]) -> Written:
    if markers:
        _link_tenants_with_marker(markers)
    records = organization_rows(organizations)
    if not signals.tenants_have_receivers():
        return _count_upserted(statements.COUNT_UPSERTED_ORGANIZATIONS, records)
    rows = _upsert(statements.UPSERT_ORGANIZATIONS, records)
    signals.announce_tenants(rows)
    return Written.count(rows)


def _link_tenants_with_marker(markers: list[dict[str, Any]]) -> None:
    """Link legacy tenants to the organizations that carry their markers."""
    try:
        with transaction.atomic():
            linked = query(statements.LINK_TENANTS_WITH_MARKER, markers=json.dumps(markers))
    except IntegrityError:
        return  # Another writer has just inserted a row for the organization.
    for tenant_id, clerk_org_id in linked:
        signals.announce_link(tenant_id, clerk_org_id)


def _upsert_memberships(memberships: Iterable[ClerkMembership], *, as_of: datetime | None) -> Written:
    records = membership_rows(memberships)
    if not signals.memberships_have_receivers():
        return _count_upserted(statements.COUNT_UPSERTED_MEMBERSHIPS, records, as_of=as_of)
    rows = _upsert(statements.UPSERT_MEMBERSHIPS, records, as_of=as_of)
    signals.announce_memberships(rows)
    return Written.count(rows)


def _write_listing(
    statement: str,
    memberships: Sequence[ClerkMembership],
    skipped_ids: Sequence[str],
    *,
    as_of: datetime,
    retire: bool,
    **scope: str,
) -> None:
    """Write the listed memberships and, with `retire`, end the missing ones, in one statement."""
    rows = query(
        statement,
        records=json.dumps(membership_rows(memberships)),
        listed=[*(membership.id for membership in memberships), *skipped_ids],
        all_readable=not skipped_ids,
        as_of=as_of,
        retire=retire,
        **scope,
    )
    signals.announce_memberships(rows)


def _upsert(statement: str, rows: list[dict[str, Any]], **parameters: Any) -> list[Any]:
    return query(statement, records=json.dumps(rows), **parameters) if rows else []


def _count_upserted(statement: str, rows: list[dict[str, Any]], **parameters: Any) -> Written:
    for created, updated in _upsert(statement, rows, **parameters):
        return Written(created, updated)
    return Written()


def _touch(clerk_org_id: str) -> None:
    living = Tenant.objects.filter(clerk_org_id=clerk_org_id, deleted_at=None)
    living.update(last_synced_at=ClockTimestamp())


def _insert_creator(tenant: Tenant, clerk_user_id: str, role: str) -> None:
    if Tombstone.objects.filter(kind=Tombstone.Kind.USER, clerk_id=clerk_user_id).exists():
        return
    _, is_new = Membership.objects.get_or_create(
        tenant=tenant,
        clerk_user_id=clerk_user_id,
        defaults={"role": role, "clerk_created_at": tenant.clerk_created_at or 0},
    )
    if is_new:
        signals.announce_memberships([(tenant.pk, clerk_user_id, None, {"role": role, "is_active": True})])
