"""Find what a full sync would change. Run one SELECT for each page, and write nothing."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Any, Generic, Literal

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.organizations import get_clerk_memberships_page, get_clerk_orgs_page
from clerk_integration.wire.pages import ClerkPage, FetchPage, Record
from clerk_integration.wire.passes import SeenRecords, read_whole
from tenants.creation.instances import right_instance
from tenants.exceptions import SyncInterrupted
from tenants.mirror import deletions, statements, writer
from tenants.mirror.rows import membership_rows, organization_rows
from tenants.reconcile.progress import NoProgress, Progress
from tenants.sql import query

DIFFERING_ORGANIZATIONS = f"""
SELECT incoming.clerk_org_id, incoming.name, incoming.clerk_org_id,
       to_jsonb(mirrored), to_jsonb(incoming) - '{{clerk_org_id,attempt}}'::text[]
FROM {statements.INCOMING_ORGANIZATIONS}
LEFT JOIN tenants ON tenants.clerk_org_id = incoming.clerk_org_id
LEFT JOIN LATERAL (
    SELECT tenants.name, tenants.slug, tenants.logo_url, tenants.clerk_metadata,
           tenants.clerk_created_at, tenants.clerk_updated_at
    WHERE tenants.id IS NOT NULL) AS mirrored ON true
WHERE {statements.ORGANIZATION_NOT_DELETED}
  AND {statements.ORGANIZATION_CHANGES.format(incoming="incoming")}
ORDER BY incoming.clerk_org_id
"""

DIFFERING_MEMBERSHIPS = f"""
WITH records AS MATERIALIZED (
    SELECT incoming.*, true AS is_active
    FROM {statements.INCOMING_MEMBERSHIPS}
    WHERE {statements.MEMBERSHIP_NOT_DELETED})
SELECT records.clerk_membership_id, records.clerk_user_id || ' in ' || records.clerk_org_id,
       records.clerk_org_id,
       to_jsonb(mirrored), to_jsonb(records) - '{{clerk_user_id,clerk_org_id}}'::text[]
FROM records
LEFT JOIN tenants ON tenants.clerk_org_id = records.clerk_org_id
LEFT JOIN memberships
  ON memberships.tenant_id = tenants.id AND memberships.clerk_user_id = records.clerk_user_id
LEFT JOIN LATERAL (
    SELECT memberships.clerk_membership_id, memberships.role, memberships.is_active,
           memberships.clerk_created_at, memberships.clerk_updated_at
    WHERE memberships.id IS NOT NULL) AS mirrored ON true
WHERE {statements.MEMBERSHIP_CHANGES.format(incoming="records", as_of=statements.AS_OF)}
ORDER BY records.clerk_membership_id
"""

RESTORABLE = """
SELECT clerk_id, coalesce(tenants.name, ''), clerk_id FROM tombstones
LEFT JOIN tenants ON tenants.clerk_org_id = tombstones.clerk_id
WHERE kind = 'organization' AND clerk_id = ANY (%(seen)s) AND tombstones.created_at <= %(as_of)s - %(age)s
ORDER BY clerk_id
"""

# MISSING_ORGANIZATIONS in `missing` explains why this is EXCEPT and not NOT EXISTS.
UNLISTED_ORGANIZATIONS = f"""
WITH unlisted AS MATERIALIZED (
    SELECT clerk_org_id FROM tenants
    WHERE {statements.TENANT_CAN_BE_RETIRED}
    EXCEPT SELECT unnest(%(seen)s::text[]))
SELECT clerk_org_id, name, clerk_org_id FROM unlisted JOIN tenants USING (clerk_org_id)
ORDER BY tenants.id
"""

_UNLISTED_MEMBERSHIPS = f"""
WITH unlisted AS MATERIALIZED (
    SELECT memberships.clerk_membership_id
    FROM memberships JOIN tenants ON tenants.id = memberships.tenant_id
    WHERE {statements.MEMBERSHIP_CAN_BE_ENDED}
      AND memberships.clerk_membership_id IS NOT NULL AND tenants.deleted_at IS NULL {{scope}}
    EXCEPT SELECT unnest(%(seen)s::text[]))
SELECT clerk_membership_id, memberships.clerk_user_id || ' in ' || tenants.clerk_org_id,
       tenants.clerk_org_id
FROM unlisted JOIN memberships USING (clerk_membership_id)
JOIN tenants ON tenants.id = memberships.tenant_id
ORDER BY memberships.id
"""

UNLISTED_MEMBERSHIPS = _UNLISTED_MEMBERSHIPS.format(scope="")

UNLISTED_MEMBERSHIPS_OF_ORGANIZATION = _UNLISTED_MEMBERSHIPS.format(
    scope="AND tenants.clerk_org_id = %(organization)s"
)

Kind = Literal["organization", "membership"]
What = Literal["missing from the mirror", "missing from Clerk", "changed", "recorded as deleted"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One record that a full sync would write; `changes` maps a column to (value here, value in Clerk)."""

    kind: Kind
    what: What
    clerk_id: str
    name: str
    clerk_org_id: str
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        changes = ", ".join(f"{column} {old!r} -> {new!r}" for column, (old, new) in self.changes.items())
        return f"{self.kind} {self.clerk_id} ({self.name}): {self.what}{': ' if changes else ''}{changes}"


@dataclass
class Comparison:
    """The number of records that are equal here and in Clerk, and of records that a full sync would write."""

    unchanged: int = 0
    missing_from_mirror: int = 0
    """Records in Clerk that have no row in the mirror."""
    missing_from_clerk: int = 0
    """Rows of the mirror that are missing from Clerk's list."""
    changed: int = 0
    recorded_as_deleted: int = 0
    """Organizations that have had a tombstone for at least 60 s although Clerk lists them."""
    skipped: int = 0
    """Records in Clerk that could not be read."""


def compare_with_clerk(
    report: Callable[[Difference], None],
    *,
    skip_memberships: bool = False,
    progress: Progress | None = None,
    stopping: Event | None = None,
) -> Comparison:
    """Call `report` with each difference between Clerk and the mirror; return the number of each kind.

    Write nothing. Read Clerk as a full sync does, and the mirror with one statement for each page. A full
    sync also asks Clerk for the id of each missing record before it retires a row; this function does not.
    Raise WrongInstance, ListingIncomplete, SyncInterrupted (after `stopping` is set) and ClerkError.
    """
    comparison = Comparison()
    right_instance(writing=False)
    task = _Task(report, progress or NoProgress(), stopping or Event(), began=writer.clock())
    _Comparer(_ORGANIZATIONS, comparison, task).compare()
    if not skip_memberships:
        _Comparer(_MEMBERSHIPS, comparison, task).compare()
    return comparison


def compare_organization(
    organization: ClerkOrganization, members: ClerkPage[ClerkMembership], *, as_of: datetime
) -> list[Difference]:
    """Return what a sync of the organization would write, for the organization and this page of its members.

    Rows here that Clerk lacks are included if the page holds all members. `as_of` is the database's time
    before Clerk was asked. Run one statement for the organization and two for its members.
    """
    differences = _differences(_ORGANIZATIONS, [organization], as_of)
    differences += _differences(_MEMBERSHIPS, members.records, as_of)
    if members.offset == 0 and len(members.ids) == members.total:
        unlisted = query(
            UNLISTED_MEMBERSHIPS_OF_ORGANIZATION, as_of=as_of, seen=members.ids, organization=organization.id
        )
        differences += [Difference("membership", "missing from Clerk", *row) for row in unlisted]
    return differences


@dataclass(frozen=True, slots=True)
class _Task:
    """The callbacks of a comparison, the event that stops it, and its start time by the database's clock."""

    report: Callable[[Difference], None]
    progress: Progress
    stopping: Event
    began: datetime


@dataclass(frozen=True, slots=True)
class _Side(Generic[Record]):
    """One of Clerk's lists and the statements that compare it with the mirror."""

    kind: Kind
    fetch: FetchPage[Record]
    rows: Callable[[Iterable[Record]], list[dict[str, Any]]]
    differing: str
    unlisted: str


_ORGANIZATIONS: _Side[ClerkOrganization] = _Side(
    "organization",
    get_clerk_orgs_page,
    organization_rows,
    DIFFERING_ORGANIZATIONS,
    UNLISTED_ORGANIZATIONS,
)
_MEMBERSHIPS: _Side[ClerkMembership] = _Side(
    "membership",
    get_clerk_memberships_page,
    membership_rows,
    DIFFERING_MEMBERSHIPS,
    UNLISTED_MEMBERSHIPS,
)


class _Comparer(Generic[Record]):
    """Compares one list page by page. If two pages contain the same record, the record is compared once."""

    def __init__(self, side: "_Side[Record]", comparison: Comparison, task: "_Task") -> None:
        self._side = side
        self._comparison = comparison
        self._task = task
        self._seen = SeenRecords()

    def compare(self) -> None:
        """Read the whole list and report the records that differ; then report the rows missing from Clerk."""
        self._task.progress.start(None, f"{self._side.kind}s")
        read_whole(self._side.fetch, self)
        self._comparison.skipped += len(self._seen.skipped)
        if self._side.kind == "organization":
            self._report_restorable()
        unlisted = query(self._side.unlisted, as_of=self._task.began, seen=list(self._seen.ids))
        for row in unlisted:
            self._comparison.missing_from_clerk += 1
            self._task.report(Difference(self._side.kind, "missing from Clerk", *row))

    def _report_restorable(self) -> None:
        """Report organizations that Clerk lists although they have had a tombstone for at least 60 s."""
        contradicted = query(
            RESTORABLE,
            seen=list(self._seen.ids),
            as_of=self._task.began,
            age=deletions.RESTORABLE_AFTER,
        )
        for row in contradicted:
            self._comparison.unchanged -= 1
            self._comparison.recorded_as_deleted += 1
            self._task.report(Difference("organization", "recorded as deleted", *row))

    def handle_page(self, pass_number: int, page: ClerkPage[Record]) -> None:
        """Compare the records of the page that no earlier page contained."""
        new = self._seen.add(pass_number, page)
        differences = _differences(self._side, new, self._task.began)
        self._comparison.unchanged += len(new) - len(differences)
        for difference in differences:
            if difference.what == "changed":
                self._comparison.changed += 1
            else:
                self._comparison.missing_from_mirror += 1
            self._task.report(difference)
        self._task.progress.expect(page.total)
        self._task.progress.advance(len(new))
        if self._task.stopping.is_set():
            raise SyncInterrupted(
                "Stopped the dry run. No tenant was changed. Run the same command again; it starts from the"
                " beginning."
            )

    def count_seen(self, pass_number: int) -> int:
        """Return how many different records the pass has read, including unreadable records."""
        return self._seen.count()


def _differences(side: _Side[Record], records: Sequence[Record], as_of: datetime) -> list[Difference]:
    """Return a difference for each record that a sync which asked Clerk at `as_of` would write."""
    if not records:
        return []
    rows = query(side.differing, records=json.dumps(side.rows(records)), as_of=as_of)
    return [_difference(side.kind, (row[0], row[1], row[2]), *row[3:]) for row in rows]


def _difference(
    kind: Kind,
    key: tuple[str, str, str],
    mirrored: Mapping[str, Any] | None,
    incoming: Mapping[str, Any],
) -> Difference:
    """Return the difference of a record; `key` is its id, its name and the id of its organization."""
    if mirrored is None:
        return Difference(kind, "missing from the mirror", *key)
    changes = {column: (mirrored[column], new) for column, new in incoming.items() if mirrored[column] != new}
    return Difference(kind, "changed", *key, changes)
