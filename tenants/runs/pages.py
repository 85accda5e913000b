"""The pages of full syncs on record: which ids they showed, and what follows from that for their list.

A page goes on record in the transaction that writes it, on the condition that the run is still its
holder's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Func, IntegerField, Max, Sum

from tenants.exceptions import SyncLost
from tenants.models import SyncRun, SyncRunPage
from tenants.runs.leases import LEASE
from tenants.sql import query

RECORD_PAGE = """
WITH moved AS (
    UPDATE sync_runs SET
        created = created + %(created)s, updated = updated + %(updated)s,
        unchanged = unchanged + %(unchanged)s, failed = failed + %(unreadable)s,
        cursor = cursor || %(cursor)s::jsonb,
        lease_expires_at = clock_timestamp() + %(lease)s
    WHERE id = %(run)s AND state = 'running' AND holder = %(holder)s
    RETURNING id),
page AS (
    INSERT INTO sync_run_pages (run_id, listing, pass_number, slice_number, "offset", total, skipped, ids)
    SELECT id, %(listing)s, %(pass_number)s, %(slice_number)s, %(offset)s, %(total)s, %(skipped)s, %(ids)s
    FROM moved
    ON CONFLICT (run_id, listing, pass_number, slice_number, "offset") DO UPDATE
    SET total = excluded.total, skipped = excluded.skipped, ids = excluded.ids)
SELECT id FROM moved
"""

LAST_PAGE = """
SELECT pass_number, slice_number, "offset", total, skipped, ids FROM sync_run_pages
WHERE run_id = %(run)s AND listing = %(listing)s
  AND slice_number = coalesce(%(slice_number)s, slice_number)
ORDER BY pass_number DESC, slice_number DESC, id DESC LIMIT 1
"""

COUNT_SEEN = """
SELECT (SELECT count(DISTINCT listed) FROM sync_run_pages, unnest(ids) AS listed
        WHERE run_id = %(run)s AND listing = %(listing)s AND pass_number = %(pass_number)s)
     + (SELECT coalesce(sum(skipped), 0) FROM sync_run_pages
        WHERE run_id = %(run)s AND listing = %(listing)s AND pass_number = %(pass_number)s)
"""

ONE_SLICE_IS_WHOLE = f"""
SELECT (SELECT count(*) = 1 AND bool_and(NOT broken) FROM sync_run_slices
        WHERE run_id = %(run)s AND part = %(listing)s)
   AND (SELECT max(pass_number) FROM sync_run_pages WHERE run_id = %(run)s AND listing = %(listing)s) = 1
   AND (SELECT total FROM sync_run_pages WHERE run_id = %(run)s AND listing = %(listing)s
        ORDER BY id DESC LIMIT 1) <= ({COUNT_SEEN})
"""

# A record that two slices have met joins them: no record between them was missed.
COUNT_JOINED = """
WITH listed AS MATERIALIZED (
    SELECT slice_number, unnest(ids) AS id FROM sync_run_pages
    WHERE run_id = %(run)s AND listing = %(listing)s AND pass_number = 1)
SELECT count(DISTINCT later.slice_number) FROM listed AS earlier
JOIN listed AS later ON later.id = earlier.id AND later.slice_number = earlier.slice_number + 1
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
    """How many records of the page could not be read and have no id."""
    ids: Sequence[str]
    asked_at: datetime
    """A moment before Clerk was asked for the page, by the database's clock."""
    slice_number: int = 0
    unreadable: int = 0
    """How many records of the page could not be read, those with an id included."""

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
            "slice_number": self.slice_number,
            "offset": self.offset,
            "total": self.total,
            "skipped": self.skipped,
            "ids": list(self.ids),
            "created": created,
            "updated": updated,
            "unreadable": self.unreadable,
            "unchanged": max(0, len(self.ids) + self.skipped - self.unreadable - created - updated),
            "cursor": json.dumps(cursor),
            "lease": LEASE,
        }


def record(page: RunPage, *, created: int, updated: int) -> None:
    """Record a page; one statement.

    Call it in the transaction that writes the page. Raise SyncLost if another process has taken the run over.
    """
    if not query(RECORD_PAGE, **page.parameters(created=created, updated=updated)):
        raise SyncLost(_lost(page))


def last_page(run: SyncRun, listing: str, *, slice_number: int | None = None) -> RunPage | None:
    """Return the page that was recorded last, of one slice or (None) of the last one; None before it."""
    for row in query(LAST_PAGE, run=run.pk, listing=listing, slice_number=slice_number):
        pass_number, number, offset, total, skipped, ids = row
        return RunPage(
            run.pk, run.holder, listing, pass_number, offset, total, skipped, ids, run.started_at, number
        )
    return None


def is_one_slice_whole(run: SyncRun, listing: str) -> bool:
    """Return whether a listing that was read as one slice has no gap and as many records as Clerk counted."""
    [(is_whole,)] = query(ONE_SLICE_IS_WHOLE, run=run.pk, listing=listing, pass_number=1)
    return bool(is_whole)


def is_joined(run: SyncRun, listing: str) -> bool:
    """Return whether the slices of a listing's first pass continue each other without a gap."""
    broken = list(run.slices.filter(part=listing).values_list("broken", flat=True))
    if any(broken) or len(broken) == 1:
        return not any(broken)
    [(joined,)] = query(COUNT_JOINED, run=run.pk, listing=listing)
    return int(joined) == len(broken) - 1


def count_seen(run: SyncRun, listing: str, pass_number: int) -> int:
    """Return how many different records one pass has met, unreadable ones included."""
    [(seen,)] = query(COUNT_SEEN, run=run.pk, listing=listing, pass_number=pass_number)
    return int(seen)


def count_read(run: SyncRun, listing: str) -> tuple[int, int]:
    """Return how many records the latest pass has read, those on two pages twice, and Clerk's total."""
    pages = SyncRunPage.objects.filter(run=run, listing=listing)
    latest = pages.order_by("-pass_number").values("pass_number")[:1]
    read = pages.filter(pass_number=latest).aggregate(
        ids=Sum(Func("ids", function="cardinality", output_field=IntegerField()), default=0),
        skipped=Sum("skipped", default=0),
        total=Max("total", default=0),
    )
    return read["ids"] + read["skipped"], read["total"]


def count_skipped(run: SyncRun, listing: str) -> int:
    """Return how many records of the listing could not be read and have no id."""
    pages = SyncRunPage.objects.filter(run=run, listing=listing)
    return int(pages.aggregate(skipped=Sum("skipped", default=0))["skipped"])


def _lost(page: RunPage) -> str:
    return (
        f"Full sync {page.run_id} was taken over by another process, so this one has stopped. The pages that"
        " it wrote are kept."
    )
