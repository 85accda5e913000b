"""The full sync: mirror all records that Clerk has, and retire the rows that Clerk no longer has.

The full sync reads the list of all organizations, then the list of all memberships, with one request and
three statements for each 500 records. This process reads a list as one slice, or workers read many slices
at the same time; both use the same functions. The rows of a page and its `sync_run_pages` row are committed
together, so a run that was stopped or killed resumes after its last page.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any
from uuid import uuid4

from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.types import JSONDict

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.exceptions import WrongInstance
from clerk_integration.jobs.queue import queue
from clerk_integration.times import utc_text
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.overlap import OVERLAP
from tenants.creation.instances import require_own_instance, right_instance
from tenants.exceptions import SyncAlreadyRunning, SyncInterrupted, SyncLost, TooManyMissing
from tenants.models import SyncRun
from tenants.reconcile.listings import LISTINGS, MEMBERSHIPS, ORGANIZATIONS, Listing, ListingReader
from tenants.reconcile.progress import NoProgress, Progress
from tenants.runs import leases, records, slices

logger = logging.getLogger(__name__)

DEFAULT_MAX_RETIRE_PERCENT = 10.0
"""If a larger part of the mirror is missing from Clerk, the probable cause is a wrong key, not deletions."""

SYNC_SLICE = "tenants.tasks.sync_slice"
CONCLUDE_LISTING = "tenants.tasks.conclude_listing"

SLICE_RECORDS = 5_000
"""Number of records in the slice of one job: ten pages."""


def run_full_sync(
    *,
    skip_memberships: bool = False,
    max_retire_percent: float = DEFAULT_MAX_RETIRE_PERCENT,
    progress: Progress | None = None,
    stopping: Event | None = None,
) -> SyncRun:
    """Bring the whole mirror up to date with Clerk; return the completed run.

    Create and update tenants and memberships. Settle creations whose reply was lost. Record an organization
    as deleted if Clerk answers 404 for its id. End a membership if Clerk no longer has it. Do not change
    columns that are not Clerk's, members of legacy tenants, and rows written since the run began. Write also
    `sync_runs`, `sync_run_slices` and `sync_run_pages`. Resume as `records.begin_or_resume` does.

    When `stopping` is set, finish the current page, then raise SyncInterrupted. Raise SyncError and
    ClerkError; keep the rows written before, and record the error in the run. Raise TooManyMissing at the
    end if more than `max_retire_percent` (0 to 100) of the organizations or of the memberships, and more
    than `creation.instances.FEW`, are missing from Clerk. Then retire none of them, but write the rest.
    """
    progress, stopping = progress or NoProgress(), stopping or Event()
    instance_id = right_instance()
    waiting = slices.waiting_runs(SyncRun.Kind.FULL_SYNC)
    run, resumed = records.begin_or_resume(
        instance_id=instance_id, skip_memberships=skip_memberships, max_retire_percent=max_retire_percent
    )
    for replaced in waiting:
        progress.note(f"Full sync {replaced}, which waits for workers, is replaced by this run.")
    if resumed:
        progress.note(f"Resuming full sync {run.pk}, which began {utc_text(run.started_at)}.")
    with _recorded(run), leases.kept_alive(run):
        _sync_listing(run, ListingReader(run, ORGANIZATIONS, progress, stopping))
        if not skip_memberships:
            _sync_listing(run, ListingReader(run, MEMBERSHIPS, progress, stopping))
    if run.error:
        raise TooManyMissing(run.error)
    return run


def enqueue_full_sync(
    *,
    skip_memberships: bool = False,
    max_retire_percent: float = DEFAULT_MAX_RETIRE_PERCENT,
    slice_records: int = SLICE_RECORDS,
) -> SyncRun:
    """Put the jobs of a full sync on the queue; return its run.

    Workers then do the work of `run_full_sync`. Write `sync_runs`, `sync_run_slices` and the jobs. Request
    the instance of the key and the length of the list from Clerk. Raise ClerkError, and SyncAlreadyRunning
    if a full sync is running or on the queue already.
    """
    instance_id = right_instance()
    total = _total(ORGANIZATIONS)
    for run_id in slices.waiting_runs(SyncRun.Kind.FULL_SYNC):
        raise SyncAlreadyRunning(
            f"Full sync {run_id} is on the queue already. Nothing was done. Its page in the admin and"
            f" `sync_from_clerk --follow {run_id}` show how far it is."
        )
    run = records.begin(
        instance_id=instance_id,
        skip_memberships=skip_memberships,
        max_retire_percent=max_retire_percent,
        slice_records=slice_records,
    )
    with records.failures_on_record(run, spared=records.TRANSIENT):
        _hand_out(run, ORGANIZATIONS, total)
    return run


def sync_slice(run_id: int, part: str, number: int) -> None:
    """Read and write one slice; if the job is repeated, continue after the last recorded page.

    Write the tenants or memberships, the pages and the slice. If the run has ended or was replaced, write
    nothing and return without an error. Raise ClerkError, for example WrongInstance if the worker's key is
    of another instance than the run.
    """
    with _run_of_workers(run_id) as run:
        if run.holder != _workers_on(part):
            raise SyncLost(f"Full sync {run_id} does not wait for slices of the {part} any more.")
        leases.renew(run)
        reader = ListingReader(run, LISTINGS[part], NoProgress(), Event())
        if slices.carry_one(run, part, number, reader.read_slice):
            lock = f"{CONCLUDE_LISTING} {run_id} {part}"
            with suppress(AlreadyEnqueued):  # Another worker closed the last slice at the same time.
                queue.defer_job(slices.job(CONCLUDE_LISTING, queueing_lock=lock, run_id=run_id, part=part))


def conclude_listing(run_id: int, part: str) -> None:
    """Conclude a list after its last slice; then enqueue the slices of the next list, or end the run.

    If another worker has taken this job over in the meantime, write nothing more. Raise ClerkError as
    `sync_slice` does.
    """
    with _run_of_workers(run_id) as run:
        workers = _workers_on(part)
        records.take_over(
            run, f"{workers}, concluded by {records.this_process()}, {uuid4()}", expected=workers
        )
        with leases.kept_alive(run):
            ListingReader(run, LISTINGS[part], NoProgress(), Event()).conclude()
        if part == MEMBERSHIPS.name or run.cursor["skip_memberships"]:
            _finish(run)
        else:
            _hand_out(run, MEMBERSHIPS, _total(MEMBERSHIPS))


def _sync_listing(run: SyncRun, reader: ListingReader[Any]) -> None:
    slices.plan(run, reader.listing.name, [{"start": 0, "until": None}])
    slices.carry(run, reader.listing.name, reader.read_slice)
    reader.conclude()


def _hand_out(run: SyncRun, listing: Listing[Any], total: int) -> None:
    slices.plan(run, listing.name, _cut(total, run.cursor["slice_records"]))
    slices.hand_out(run, listing.name, SYNC_SLICE, holder=_workers_on(listing.name))


def _cut(total: int, size: int) -> list[JSONDict]:
    """Divide a list into slices that overlap. The last slice has no end, because the list may grow."""
    starts = range(0, max(1, total - OVERLAP), size - OVERLAP)
    return [{"start": start, "until": None if start == starts[-1] else start + size} for start in starts]


def _total(listing: Listing[Any]) -> int:
    with clerk_deadline(JOB_TIMEOUT_SECONDS):
        return listing.fetch(0).total


def _workers_on(part: str) -> str:
    """Return the holder of a run while workers do the slices of the part."""
    return f"{records.WORKERS}, {part}"


def _finish(run: SyncRun) -> None:
    """Record the end of a run: as failed if too many rows were missing. Raise SyncLost."""
    state = SyncRun.State.FAILED if run.error else SyncRun.State.COMPLETED
    if not records.finish(run, state, run.error):
        raise leases.lost(run)


@contextmanager
def _recorded(run: SyncRun) -> Iterator[None]:
    """Record how the run ends. A run that an interruption or a transient error ended can be resumed."""
    resumable = (SyncInterrupted, KeyboardInterrupt, *records.TRANSIENT)
    try:
        with records.failures_on_record(run, spared=(SyncLost, *resumable)):
            yield
    except resumable as error:
        records.finish(run, SyncRun.State.INTERRUPTED, str(error) or "Ctrl-C")
        raise
    _finish(run)


@contextmanager
def _run_of_workers(run_id: int) -> Iterator[SyncRun]:
    """Yield the run; record it as failed after an error that a retry cannot fix. Only log SyncLost."""
    run = SyncRun.objects.get(pk=run_id)
    try:
        with records.failures_on_record(run, spared=(SyncLost, *records.TRANSIENT)):
            if run.state == SyncRun.State.RUNNING:
                _require_instance_of(run)
            yield run
    except SyncLost as lost:
        logger.info("%s", lost)


def _require_instance_of(run: SyncRun) -> None:
    """Raise WrongInstance unless the key and this database still belong to the instance of the run.

    The worker may have another key than the process that began the run, and an operator may have adopted
    another instance since.
    """
    instance_id = require_own_instance()
    if instance_id != run.instance_id:
        raise WrongInstance(
            f"Full sync {run.pk} was begun for the Clerk instance {run.instance_id}, and this database"
            f" belongs to {instance_id} now. Nothing was changed. Start another full sync."
        )
