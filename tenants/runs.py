"""Full syncs on record: who runs one, how far it came, and which pages it has read.

One runs at a time, under an advisory lock of a database session. The lock belongs to a connection of
its own, which nothing else closes or reuses; a process that dies loses it, however it dies. A proxy
that gives sessions to others between transactions (pgbouncer in transaction mode) breaks such locks,
so DATABASE_URL must not lead through one for commands and workers. Even then no two runs mix: every
page is recorded on the condition that the run is still its holder's.
"""

import getpass
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import F, Sum
from django.db.models.functions import Now

from tenants.cursors import query
from tenants.exceptions import SyncAlreadyRunning, SyncLost
from tenants.models import SyncRun, SyncRunPage

RUN_LOCK = 0x636C6B03
"""Key of the advisory lock of full syncs; any constant of ours will do."""

RESUME_WITHIN = timedelta(hours=1)
"""How old a run may be that is resumed: what its pages said is as old."""

RECORD_PAGE = """
WITH moved AS (
    UPDATE sync_runs SET
        created = created + %(created)s, updated = updated + %(updated)s,
        unchanged = unchanged + %(unchanged)s, failed = failed + %(skipped)s,
        cursor = cursor || %(cursor)s::jsonb
    WHERE id = %(run)s AND state = 'running' AND holder = %(holder)s
    RETURNING id),
page AS (
    INSERT INTO sync_run_pages (run_id, listing, pass_number, "offset", total, skipped, ids)
    SELECT id, %(listing)s, %(pass_number)s, %(offset)s, %(total)s, %(skipped)s, %(ids)s FROM moved
    ON CONFLICT (run_id, listing, pass_number, "offset") DO UPDATE
    SET total = excluded.total, skipped = excluded.skipped, ids = excluded.ids)"""

RECORD_ORGANIZATIONS = (
    RECORD_PAGE
    + """,
resolved AS (
    UPDATE creation_attempts AS attempt
    SET state = 'succeeded',
        answer = jsonb_build_object('tenant_id', tenants.id, 'clerk_org_id', tenants.clerk_org_id)
    FROM moved, jsonb_to_recordset(%(markers)s::jsonb) AS found(marker uuid, organization_id text)
    JOIN tenants ON tenants.clerk_org_id = found.organization_id
    WHERE attempt.marker = found.marker AND attempt.state IN ('sent', 'unknown'))
SELECT id FROM moved
"""
)

RECORD_MEMBERSHIPS = (
    RECORD_PAGE
    + """
SELECT id, ARRAY(
    SELECT nested FROM unnest(%(organizations)s::text[]) AS nested
    WHERE NOT EXISTS (SELECT FROM tenants WHERE clerk_org_id = nested)
      AND NOT EXISTS (SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = nested))
FROM moved
"""
)

LAST_PAGE = """
SELECT pass_number, "offset", total, skipped, ids FROM sync_run_pages
WHERE run_id = %(run)s AND listing = %(listing)s
ORDER BY pass_number DESC, id DESC LIMIT 1
"""

COUNT_SEEN = """
SELECT (SELECT count(DISTINCT listed) FROM sync_run_pages, unnest(ids) AS listed
        WHERE run_id = %(run)s AND listing = %(listing)s AND pass_number = %(pass_number)s)
     + (SELECT coalesce(sum(skipped), 0) FROM sync_run_pages
        WHERE run_id = %(run)s AND listing = %(listing)s AND pass_number = %(pass_number)s)
"""


@dataclass(frozen=True, slots=True)
class RunPage:
    """A page of a run's listing, as it goes on record."""

    run_id: int
    holder: str
    listing: str
    pass_number: int
    offset: int
    total: int
    skipped: int
    ids: Sequence[str]

    @property
    def end(self) -> int:
        """The offset behind the page."""
        return self.offset + len(self.ids) + self.skipped

    def parameters(self, *, created: int, updated: int) -> dict[str, Any]:
        """Return what RECORD_PAGE takes, given what writing the page has changed."""
        cursor = {self.listing: {"pass": self.pass_number, "read": self.end, "of": self.total}}
        return {
            "run": self.run_id,
            "holder": self.holder,
            "listing": self.listing,
            "pass_number": self.pass_number,
            "offset": self.offset,
            "total": self.total,
            "skipped": self.skipped,
            "ids": list(self.ids),
            "created": created,
            "updated": updated,
            "unchanged": max(0, len(self.ids) - created - updated),
            "cursor": json.dumps(cursor),
        }


@contextmanager
def sole_full_sync() -> Iterator[None]:
    """Keep all other full syncs away; raise SyncAlreadyRunning, which names the one that is running."""
    session = connection.copy()
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [RUN_LOCK])
            [taken] = cursor.fetchone()
        if not taken:
            raise SyncAlreadyRunning(_who_runs())
        yield
    finally:
        session.close()


def begin_or_resume(*, instance_id: str, skip_memberships: bool) -> tuple[SyncRun, bool]:
    """Return the run to carry on, and whether it began earlier; to be called as the sole full sync.

    An interrupted run that is younger than an hour, of the same instance and extent, is resumed. A
    run that says `running` has lost its process: it counts as interrupted. Writes `sync_runs`, and
    deletes the pages of earlier runs when a new one begins.
    """
    syncs = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC)
    syncs.filter(state=SyncRun.State.RUNNING).update(
        state=SyncRun.State.INTERRUPTED, finished_at=Now(), error="Its process ended without a word."
    )
    wanted = {"instance_id": instance_id, "cursor__skip_memberships": skip_memberships}
    latest = syncs.filter(started_at__gt=Now() - RESUME_WITHIN).first()
    if latest is not None and syncs.filter(pk=latest.pk, state=SyncRun.State.INTERRUPTED, **wanted).exists():
        SyncRun.objects.filter(pk=latest.pk).update(
            state=SyncRun.State.RUNNING, holder=_holder(), error="", finished_at=None
        )
        latest.refresh_from_db()
        return latest, True
    # Only a run that may be resumed needs its pages, and none of the earlier ones will be.
    SyncRunPage.objects.filter(run__kind=SyncRun.Kind.FULL_SYNC).delete()
    run = SyncRun.objects.create(
        kind=SyncRun.Kind.FULL_SYNC,
        holder=_holder(),
        instance_id=instance_id,
        cursor={"skip_memberships": skip_memberships},
    )
    run.refresh_from_db()
    return run, False


def record_organizations(page: RunPage, *, created: int, updated: int, markers: list[dict[str, str]]) -> None:
    """Record a page of organizations and settle the creations that it shows; one statement.

    To be called in the transaction that writes the page. Raise SyncLost when the run is not ours.
    """
    parameters = page.parameters(created=created, updated=updated)
    if not query(RECORD_ORGANIZATIONS, markers=json.dumps(markers), **parameters):
        raise SyncLost(_lost(page))


def record_memberships(page: RunPage, *, created: int, updated: int, organizations: list[str]) -> list[str]:
    """Record a page of memberships; return those of `organizations` that have neither row nor tombstone.

    One statement. To be called in the transaction that writes the page. Raise SyncLost when the run
    is not ours.
    """
    parameters = page.parameters(created=created, updated=updated)
    recorded = query(RECORD_MEMBERSHIPS, organizations=organizations, **parameters)
    if not recorded:
        raise SyncLost(_lost(page))
    return list(recorded[0][1])


def last_page(run: SyncRun, listing: str) -> RunPage | None:
    """Return the page of the listing that was recorded last, None before the first."""
    for row in query(LAST_PAGE, run=run.pk, listing=listing):
        pass_number, offset, total, skipped, ids = row
        return RunPage(run.pk, run.holder, listing, pass_number, offset, total, skipped, ids)
    return None


def count_seen(run: SyncRun, listing: str, pass_number: int) -> int:
    """Return how many different records one pass has met, unreadable ones included."""
    [(seen,)] = query(COUNT_SEEN, run=run.pk, listing=listing, pass_number=pass_number)
    return int(seen)


def count_skipped(run: SyncRun, listing: str) -> int:
    """Return how many records of the listing could not be read."""
    pages = SyncRunPage.objects.filter(run=run, listing=listing)
    return int(pages.aggregate(skipped=Sum("skipped", default=0))["skipped"])


def count(run: SyncRun, **counts: int) -> None:
    """Add to the run's counts, such as `retired=1`. Writes `sync_runs`."""
    SyncRun.objects.filter(pk=run.pk).update(**{name: F(name) + value for name, value in counts.items()})


def finish(run: SyncRun, state: SyncRun.State, error: str = "") -> None:
    """Record how the run ended, unless somebody else holds it by now. Writes `sync_runs`."""
    SyncRun.objects.filter(pk=run.pk, holder=run.holder).update(state=state, error=error, finished_at=Now())
    run.refresh_from_db()


def last_complete(**filters: Any) -> SyncRun | None:
    """Return the latest full sync that came to its end."""
    complete: Mapping[str, Any] = {"kind": SyncRun.Kind.FULL_SYNC, "state": SyncRun.State.COMPLETED}
    return SyncRun.objects.filter(**complete, **filters).first()


def _holder() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container may run under a number that has no name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"[:255]


def _who_runs() -> str:
    run = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC, state=SyncRun.State.RUNNING).first()
    if run is None:
        return "Another full sync has just begun. Nothing was done; try again when it has ended."
    return (
        f"Full sync {run.pk} is running already: {run.holder}, since {run.started_at:%Y-%m-%d %H:%M:%S} UTC."
        " Nothing was done; try again when it has ended."
    )


def _lost(page: RunPage) -> str:
    return (
        f"Full sync {page.run_id} was taken over by another process, so this one has stopped. The pages that"
        " it wrote are kept."
    )
