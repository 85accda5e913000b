"""The full sync as jobs: each list in slices that any number of workers read at the same time.

Organizations first; whoever closes their last slice has a job enqueued that reads what was added to
the end of the list meanwhile, makes sure that nothing is hidden between the slices (else the list is
read again, by that job alone), retires what is absent, and hands out the memberships. So the run
keeps to the rules of the one that a single process does, and takes three statements a page as well.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any
from uuid import uuid4

from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job
from procrastinate.types import JSONDict

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.jobs.queue import queue
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.overlap import OVERLAP
from tenants.exceptions import SyncAlreadyRunning, SyncLost
from tenants.models import SyncRun
from tenants.reconcile import absence
from tenants.reconcile.full_sync import DEFAULT_MAX_RETIRE_PERCENT
from tenants.reconcile.instances import right_instance
from tenants.reconcile.listings import MEMBERSHIPS, ORGANIZATIONS, Listing, PageWriter, sync_listing
from tenants.reconcile.progress import NoProgress
from tenants.runs import leases, pages, records, slices

logger = logging.getLogger(__name__)

SYNC_SLICE = "tenants.tasks.sync_slice"
CONCLUDE_LISTING = "tenants.tasks.conclude_listing"

SLICE_RECORDS = 5_000
"""Records in one job: ten pages."""

PASSING = records.TRANSIENT
"""What is worth another try later."""

LISTINGS: dict[str, Listing[Any]] = {listing.name: listing for listing in (ORGANIZATIONS, MEMBERSHIPS)}


def enqueue_full_sync(
    *,
    skip_memberships: bool = False,
    max_retire_percent: float = DEFAULT_MAX_RETIRE_PERCENT,
    slice_records: int = SLICE_RECORDS,
) -> SyncRun:
    """Put a full sync on the queue, which does what `run_full_sync` does; return its run.

    Writes `sync_runs`, `sync_run_slices` and the jobs. Two calls: whose key it is, and how long the
    list is. Raise SyncAlreadyRunning, also when a sync waits on the queue already; WrongInstance,
    TooManyAbsent when Clerk counts far too few organizations, and ClerkError.
    """
    instance_id = right_instance()
    total = _total(ORGANIZATIONS)
    for run_id in slices.waiting_runs(SyncRun.Kind.FULL_SYNC):
        raise SyncAlreadyRunning(
            f"Full sync {run_id} is on the queue already. Nothing was done; watch that one with"
            f" `sync_from_clerk --follow {run_id}`."
        )
    run = records.begin(
        instance_id=instance_id,
        skip_memberships=skip_memberships,
        max_retire_percent=max_retire_percent,
        slice_records=slice_records,
    )
    with records.failures_on_record(run, spared=PASSING):
        _guard(run).refuse_short_listing(total)
        _hand_out(run, ORGANIZATIONS, total)
    return run


def sync_slice(run_id: int, number: int, listing: str, start: int, until: int | None) -> None:
    """Read and write a slice of a list; repeated, it does what is left of it.

    Writes what a full sync's pages write, and the slice. Ends quietly when the run has ended or was
    replaced. Raise ClerkError.
    """
    with _run_of(run_id) as run:
        if run.holder != _workers_on(listing):
            raise SyncLost(f"Full sync {run_id} does not wait for slices of the {listing} any more.")
        leases.renew(run)
        writer = PageWriter(run, LISTINGS[listing], NoProgress(), Event(), slice_number=number)
        whole = writer.read_slice(start, until)
        if slices.close(run_id, listing, number, broken=not whole):
            _enqueue_conclusion(run_id, listing)


def conclude_listing(run_id: int, listing: str) -> None:
    """End a list whose slices are closed, and hand out the next one or end the run.

    Writes and raises what a full sync does behind its last page. Nobody else can conclude it meanwhile:
    a job that was given up and wakes finds that it does not hold the run.
    """
    with _run_of(run_id) as run:
        workers = _workers_on(listing)
        records.take_over(
            run, f"{workers}, concluded by {records.this_process()}, {uuid4()}", expected=workers
        )
        with leases.kept_alive(run):
            sync_listing(
                run,
                LISTINGS[listing],
                _guard(run),
                NoProgress(),
                stopping=Event(),
                first_pass_is_broken=not pages.is_joined(run, listing),
            )
        if listing == MEMBERSHIPS.name or run.cursor["skip_memberships"]:
            records.finish(run, SyncRun.State.COMPLETED)
        else:
            _hand_out(run, MEMBERSHIPS, _total(MEMBERSHIPS))


def _enqueue_conclusion(run_id: int, listing: str) -> None:
    job = Job(
        task_name=CONCLUDE_LISTING,
        queue=slices.BULK,
        priority=slices.BULK_PRIORITY,
        task_kwargs={"run_id": run_id, "listing": listing},
        lock=None,
        queueing_lock=f"{CONCLUDE_LISTING} {run_id} {listing}",
    )
    try:
        queue.defer_job(job)
    except AlreadyEnqueued:
        return  # Somebody else closed the last slice at the same moment.


def _hand_out(run: SyncRun, listing: Listing[Any], total: int) -> None:
    cut = _cut(total, run.cursor["slice_records"])
    arguments: list[JSONDict] = [
        {"listing": listing.name, "start": start, "until": until} for start, until in cut
    ]
    part = slices.Part(listing.name, SYNC_SLICE, arguments)
    slices.hand_out(run, part, holder=_workers_on(listing.name))


def _cut(total: int, size: int) -> list[tuple[int, int | None]]:
    """Cut a list into slices that overlap; the last one has no end, for the list may grow."""
    stride = size - OVERLAP
    starts = list(range(0, max(1, total - OVERLAP), stride))
    return [(start, start + size) for start in starts[:-1]] + [(starts[-1], None)]


def _total(listing: Listing[Any]) -> int:
    with clerk_deadline(JOB_TIMEOUT_SECONDS):
        return listing.fetch(0).total


def _guard(run: SyncRun) -> absence.Guard:
    return absence.Guard(run, max_percent=run.cursor["max_retire_percent"])


def _workers_on(listing: str) -> str:
    """The holder of a run while the slices of the list are in the workers' hands."""
    return f"workers, {listing}"


@contextmanager
def _run_of(run_id: int) -> Iterator[SyncRun]:
    """Do a part of a run, beside other workers; what cannot be better later ends the run as failed."""
    run = SyncRun.objects.get(pk=run_id)
    try:
        with records.failures_on_record(run, spared=(SyncLost, *PASSING)):
            yield run
    except SyncLost as lost:
        logger.info("%s", lost)
