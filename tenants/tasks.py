"""Jobs of `manage.py procrastinate worker`: bulk work, and creations that got no answer."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.dispatch import receiver
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job

from clerk_integration.jobs.queue import MAINTENANCE, queue
from clerk_integration.signals import nightly
from clerk_integration.wire.pace import paced
from tenants.backfill import queueing as migrating
from tenants.backfill.abandoned import finish_abandoned
from tenants.exceptions import SyncAlreadyRunning
from tenants.reconcile import queueing as syncing
from tenants.reconcile import resolve_creations
from tenants.runs import slices

logger = logging.getLogger(__name__)

EVERY_MINUTE = "* * * * *"

FULL_SYNC = "tenants.tasks.full_sync"


LATER = RetryStrategy(max_attempts=5, exponential_wait=4, retry_exceptions=syncing.PASSING)
"""After 4, 16, 64, 256 and 1,024 seconds: what a full sync has read is then half an hour old."""


@app.task(
    name=migrating.MIGRATE_SLICE, queue=slices.BULK, retry=RetryStrategy(max_attempts=8, exponential_wait=4)
)
def migrate_slice(run_id: int, number: int, rows: Sequence[dict[str, Any]]) -> None:
    """Migrate some tenants of a run, tried again while Clerk is down; see `backfill.queueing`."""
    migrating.migrate_slice(run_id, number, rows)


# The queueing lock keeps these from piling up. A `lock` would let one that was killed stop all later ones.
@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=MAINTENANCE, queueing_lock="settle_creations")
def settle_creations(timestamp: int) -> None:
    """Find out what creations without an answer came to, and finish the tenants that a migration left."""
    with paced():
        resolve_creations()
    finish_abandoned()


@app.task(name=syncing.SYNC_SLICE, queue=slices.BULK, retry=LATER)
def sync_slice(run_id: int, number: int, listing: str, start: int, until: int | None) -> None:
    """Read a slice of one of Clerk's lists at the shared pace; see `reconcile.queueing.sync_slice`."""
    with paced():
        syncing.sync_slice(run_id, number, listing, start, until)


@app.task(name=syncing.CONCLUDE_LISTING, queue=slices.BULK, retry=LATER)
def conclude_listing(run_id: int, listing: str) -> None:
    """End a list at the shared pace; see `reconcile.queueing.conclude_listing`."""
    with paced():
        syncing.conclude_listing(run_id, listing)


@app.task(name=FULL_SYNC, queue=slices.BULK, retry=LATER)
def full_sync() -> None:
    """Hand a full sync out to the workers; nothing to do while another one is running."""
    try:
        with paced():
            syncing.enqueue_full_sync()
    except SyncAlreadyRunning as error:
        logger.info("full sync left out: %s", error)


@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=MAINTENANCE, queueing_lock="end_abandoned_runs")
def end_abandoned_runs(timestamp: int) -> None:
    """Let nobody wait for a run whose jobs have failed."""
    slices.end_abandoned_runs()


@receiver(nightly, dispatch_uid=FULL_SYNC)
def sync_nightly(**_: Any) -> None:
    """Every night the mirror is brought level, whatever webhooks were lost."""
    job = Job(
        task_name=FULL_SYNC,
        queue=slices.BULK,
        priority=slices.BULK_PRIORITY,
        lock=None,
        queueing_lock=FULL_SYNC,
    )
    with suppress(AlreadyEnqueued):
        queue.defer_job(job)
