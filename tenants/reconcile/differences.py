"""The dry run: what a full sync would change, found with one SELECT a page and nothing written."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Any, Generic, Literal

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.organizations import get_clerk_memberships_page, get_clerk_orgs_page
from clerk_integration.wire.listing import ClerkPage
from clerk_integration.wire.passes import Fetch, Record, Seen, read_whole
from tenants.exceptions import SyncInterrupted
from tenants.mirror import writer
from tenants.mirror.rows import membership_rows, organization_rows
from tenants.reconcile.instances import right_instance
from tenants.reconcile.progress import NoProgress, Progress
from tenants.sql import query

# The conditions of `tenants.mirror.statements`: what those would not write is no difference.
DIFFERING_ORGANIZATIONS = """
SELECT fact.id, fact.name, to_jsonb(mirrored), to_jsonb(listed)
FROM jsonb_to_recordset(%(facts)s::jsonb) AS fact(
    id text, name text, slug text, image_url text, public_metadata jsonb,
    created_at bigint, updated_at bigint)
LEFT JOIN tenants ON tenants.clerk_org_id = fact.id
LEFT JOIN LATERAL (
    SELECT tenants.name, tenants.slug, tenants.logo_url, tenants.clerk_metadata,
           tenants.clerk_created_at, tenants.clerk_updated_at
    WHERE tenants.id IS NOT NULL) AS mirrored ON true
CROSS JOIN LATERAL (
    SELECT fact.name, fact.slug, fact.image_url AS logo_url, fact.public_metadata AS clerk_metadata,
           fact.created_at AS clerk_created_at, fact.updated_at AS clerk_updated_at) AS listed
WHERE to_jsonb(mirrored) IS DISTINCT FROM to_jsonb(listed)
  AND coalesce(tenants.clerk_updated_at, 0) <= coalesce(fact.updated_at, 0)
  AND NOT EXISTS (SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = fact.id)
ORDER BY fact.id
"""

DIFFERING_MEMBERSHIPS = """
SELECT fact.id, fact.user_id || ' in ' || fact.organization_id, to_jsonb(mirrored), to_jsonb(listed)
FROM jsonb_to_recordset(%(facts)s::jsonb) AS fact(
    id text, user_id text, organization_id text, role text, created_at bigint, updated_at bigint)
LEFT JOIN tenants ON tenants.clerk_org_id = fact.organization_id
LEFT JOIN memberships
  ON memberships.tenant_id = tenants.id AND memberships.clerk_user_id = fact.user_id
LEFT JOIN LATERAL (
    SELECT memberships.clerk_membership_id, memberships.role, memberships.is_active,
           memberships.clerk_created_at, memberships.clerk_updated_at
    WHERE memberships.id IS NOT NULL) AS mirrored ON true
CROSS JOIN LATERAL (
    SELECT fact.id AS clerk_membership_id, fact.role, true AS is_active,
           fact.created_at AS clerk_created_at, fact.updated_at AS clerk_updated_at) AS listed
WHERE to_jsonb(mirrored) IS DISTINCT FROM to_jsonb(listed)
  AND CASE
        WHEN memberships.clerk_membership_id IS NULL THEN true
        WHEN memberships.clerk_membership_id = fact.id
            THEN coalesce(memberships.clerk_updated_at, 0) <= coalesce(fact.updated_at, 0)
        WHEN coalesce(memberships.clerk_created_at, 0) = coalesce(fact.created_at, 0)
            THEN NOT memberships.is_active OR memberships.clerk_membership_id < fact.id
        ELSE coalesce(memberships.clerk_created_at, 0) < coalesce(fact.created_at, 0)
      END
  AND NOT EXISTS (SELECT FROM tombstones WHERE kind = 'membership' AND clerk_id = fact.id)
  AND NOT EXISTS (SELECT FROM tombstones WHERE kind = 'user' AND clerk_id = fact.user_id)
  AND NOT EXISTS (
      SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = fact.organization_id)
ORDER BY fact.id
"""

# By EXCEPT, for the same reason as in `absence`.
UNLISTED_ORGANIZATIONS = """
WITH unlisted AS MATERIALIZED (
    SELECT clerk_org_id FROM tenants
    WHERE clerk_org_id IS NOT NULL AND deleted_at IS NULL
      AND greatest(created_at, updated_at, last_synced_at) < %(began)s
    EXCEPT SELECT unnest(%(seen)s::text[]))
SELECT clerk_org_id, name FROM unlisted JOIN tenants USING (clerk_org_id)
ORDER BY tenants.id
"""

UNLISTED_MEMBERSHIPS = """
WITH unlisted AS MATERIALIZED (
    SELECT memberships.clerk_membership_id
    FROM memberships JOIN tenants ON tenants.id = memberships.tenant_id
    WHERE memberships.is_active AND memberships.clerk_membership_id IS NOT NULL
      AND tenants.clerk_org_id IS NOT NULL AND tenants.deleted_at IS NULL
      AND memberships.written_at < %(began)s
    EXCEPT SELECT unnest(%(seen)s::text[]))
SELECT clerk_membership_id, memberships.clerk_user_id || ' in ' || tenants.clerk_org_id
FROM unlisted JOIN memberships USING (clerk_membership_id)
JOIN tenants ON tenants.id = memberships.tenant_id
ORDER BY memberships.id
"""

Kind = Literal["organization", "membership"]
What = Literal["missing here", "missing there", "changed"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One record that a full sync would write; `changes` maps a column to (here, in Clerk)."""

    kind: Kind
    what: What
    clerk_id: str
    name: str
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        changes = ", ".join(f"{column} {old!r} -> {new!r}" for column, (old, new) in self.changes.items())
        return f"{self.kind} {self.clerk_id} ({self.name}): {self.what}{': ' if changes else ''}{changes}"


@dataclass
class Comparison:
    """How many records are the same, and how many a full sync would write."""

    unchanged: int = 0
    missing_here: int = 0
    missing_there: int = 0
    changed: int = 0
    skipped: int = 0
    """Records in Clerk that could not be read."""


def compare_with_clerk(
    report: Callable[[Difference], None],
    *,
    skip_memberships: bool = False,
    progress: Progress | None = None,
    stopping: Event | None = None,
) -> Comparison:
    """Tell `report` every difference between Clerk and the mirror, and return their numbers.

    Writes nothing; reads Clerk as a full sync does, and the mirror with one statement a page. What is
    missing there is not asked for by id, which a full sync would do before it retires anything.
    Raise WrongInstance, ListingIncomplete, SyncInterrupted and ClerkError.
    """
    comparison = Comparison()
    task = _Task(report, progress or NoProgress(), stopping or Event())
    right_instance()
    began = writer.clock()
    _Comparer(_ORGANIZATIONS, comparison, task).compare(began)
    if not skip_memberships:
        _Comparer(_MEMBERSHIPS, comparison, task).compare(began)
    return comparison


@dataclass(frozen=True, slots=True)
class _Task:
    """Whom a comparison tells, and who may stop it."""

    report: Callable[[Difference], None]
    progress: Progress
    stopping: Event


@dataclass(frozen=True, slots=True)
class _Side(Generic[Record]):
    """One of Clerk's lists and the statements that compare it with the mirror."""

    kind: Kind
    fetch: Fetch[Record]
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
    """Compares one list page by page; a record that comes twice is compared once."""

    def __init__(self, side: "_Side[Record]", comparison: Comparison, task: "_Task") -> None:
        self._side = side
        self._comparison = comparison
        self._task = task
        self._seen = Seen()

    def compare(self, began: datetime) -> None:
        """Read the whole list and report what differs, then what it lacks."""
        self._task.progress.start(None, f"{self._side.kind}s")
        read_whole(self._side.fetch, self)
        self._comparison.skipped += self._seen.skipped
        unlisted = query(self._side.unlisted, began=began, seen=list(self._seen.ids))
        for clerk_id, name in unlisted:
            self._comparison.missing_there += 1
            self._task.report(Difference(self._side.kind, "missing there", clerk_id, name))

    def take(self, pass_number: int, page: ClerkPage[Record]) -> None:
        """Compare what the page shows for the first time."""
        news = [record for record in page.records if record.id not in self._seen.ids]
        self._seen.add(pass_number, page)
        rows = query(self._side.differing, facts=json.dumps(self._side.rows(news))) if news else []
        self._comparison.unchanged += len(news) - len(rows)
        for row in rows:
            self._tell(*row)
        self._task.progress.expect(page.total)
        self._task.progress.advance(len(news))
        if self._task.stopping.is_set():
            raise SyncInterrupted("Stopped; nothing was written.")

    def seen(self, pass_number: int) -> int:
        """Return how many different records the pass has met, unreadable ones included."""
        return self._seen.count(pass_number)

    def _tell(
        self, clerk_id: str, name: str, here: Mapping[str, Any] | None, there: Mapping[str, Any]
    ) -> None:
        if here is None:
            self._comparison.missing_here += 1
            self._task.report(Difference(self._side.kind, "missing here", clerk_id, name))
            return
        changes = {column: (here[column], new) for column, new in there.items() if here[column] != new}
        self._comparison.changed += 1
        self._task.report(Difference(self._side.kind, "changed", clerk_id, name, changes))
