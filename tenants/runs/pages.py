"""Record the pages that a full sync has read, with the ids on each page; find gaps between the pages.

A page is recorded in the transaction that writes its organizations or memberships, and only while this
process holds the run.
"""

from django.db.models import Func, IntegerField, Max, Sum

from tenants.models import SyncRun, SyncRunPage
from tenants.runs.leases import LEASE, lost
from tenants.sql import query, text_array

RECORD_PAGE = """
WITH moved AS (
    UPDATE sync_runs SET
        created = created + %(created)s, updated = updated + %(updated)s,
        unchanged = unchanged + %(unchanged)s, failed = failed + %(unreadable)s,
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

# If a record is in two neighbouring slices, no record between these slices was missed.
COUNT_JOINED = """
WITH listed AS MATERIALIZED (
    SELECT slice_number, unnest(ids) AS id FROM sync_run_pages
    WHERE run_id = %(run)s AND listing = %(listing)s AND pass_number = 1)
SELECT count(DISTINCT later.slice_number) FROM listed AS earlier
JOIN listed AS later ON later.id = earlier.id AND later.slice_number = earlier.slice_number + 1
"""


def record(page: SyncRunPage, *, readable: int, created: int, updated: int) -> None:
    """Record a page, add to the counts of its run, and renew the lease of the run, in one statement.

    `readable` is the number of records of the page that could be read. Call this function in the transaction
    that writes the page. Raise SyncLost if another process has taken the run over.
    """
    recorded = query(
        RECORD_PAGE,
        run=page.run_id,
        holder=page.run.holder,
        listing=page.listing,
        pass_number=page.pass_number,
        slice_number=page.slice_number,
        offset=page.offset,
        total=page.total,
        skipped=page.skipped,
        ids=text_array(page.ids),
        created=created,
        updated=updated,
        unchanged=max(0, readable - created - updated),
        unreadable=len(page.ids) + page.skipped - readable,
        lease=LEASE,
    )
    if not recorded:
        raise lost(page.run)


def last_page(run: SyncRun, listing: str, **of: int) -> SyncRunPage | None:
    """Return the last recorded page of a listing, or of a slice (`slice_number=...`); None if none."""
    pages = run.pages.filter(listing=listing, **of)
    return pages.order_by("-pass_number", "-slice_number", "-id").first()


def is_one_slice_whole(run: SyncRun, listing: str) -> bool:
    """Return whether the listing is one slice without a gap, with as many records as Clerk counts."""
    [(is_whole,)] = query(ONE_SLICE_IS_WHOLE, run=run.pk, listing=listing, pass_number=1)
    return bool(is_whole)


def is_joined(run: SyncRun, listing: str) -> bool:
    """Return whether the first pass of the listing has no gap, neither in a slice nor between two slices."""
    broken = list(run.slices.filter(part=listing).values_list("broken", flat=True))
    if any(broken) or len(broken) == 1:
        return not any(broken)
    [(joined,)] = query(COUNT_JOINED, run=run.pk, listing=listing)
    return int(joined) == len(broken) - 1


def count_seen(run: SyncRun, listing: str, pass_number: int) -> int:
    """Return how many different records one pass has read, including unreadable records."""
    [(seen,)] = query(COUNT_SEEN, run=run.pk, listing=listing, pass_number=pass_number)
    return int(seen)


def count_read(run: SyncRun, listing: str) -> tuple[int, int]:
    """Return how many records the latest pass has read, repetitions included, and Clerk's total."""
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
