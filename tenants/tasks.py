"""Jobs of `manage.py procrastinate worker`: bulk work, and creations that got no answer."""

import logging
from contextlib import suppress
from typing import Any

from django.dispatch import receiver
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from clerk_integration.jobs.queue import MAINTENANCE, queue
from clerk_integration.signals import nightly
from clerk_integration.wire.pace import paced
from tenants.backfill import run as migrating
from tenants.backfill.abandoned import finish_abandoned
from tenants.exceptions import SyncAlreadyRunning
from tenants.reconcile import full_sync as syncing
from tenants.reconcile import resolve_creations
from tenants.runs import records, slices

logger = logging.getLogger(__name__)

EVERY_MINUTE = "* * * * *"

FULL_SYNC = "tenants.tasks.full_sync"


RETRY_STRATEGY = RetryStrategy(max_attempts=5, exponential_wait=4, retry_exceptions=records.TRANSIENT)
"""After 4, 16, 64, 256 and 1,024 seconds: what a full sync has read is then half an hour old."""


@app.task(
    name=migrating.MIGRATE_SLICE, queue=slices.BULK, retry=RetryStrategy(max_attempts=8, exponential_wait=4)
)
def migrate_slice(run_id: int, part: str, number: int) -> None:
    """Migrate some tenants of a run, tried again while Clerk is down; see `backfill.run`."""
    migrating.migrate_slice(run_id, part, number)


# The queueing lock keeps these from piling up. A `lock` would let one that was killed stop all later ones.
@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=MAINTENANCE, queueing_lock="settle_creations")
def settle_creations(timestamp: int) -> None:
    """Find out what creations without an answer came to, and finish the tenants that a migration left."""
    with paced():
        resolve_creations()
    finish_abandoned()


@app.task(name=syncing.SYNC_SLICE, queue=slices.BULK, retry=RETRY_STRATEGY)
def sync_slice(run_id: int, part: str, number: int) -> None:
    """Read a slice of one of Clerk's lists at the shared pace; see `reconcile.full_sync.sync_slice`."""
    with paced():
        syncing.sync_slice(run_id, part, number)


@app.task(name=syncing.CONCLUDE_LISTING, queue=slices.BULK, retry=RETRY_STRATEGY)
def conclude_listing(run_id: int, part: str) -> None:
    """Conclude a list at the shared pace; see `reconcile.full_sync.conclude_listing`."""
    with paced():
        syncing.conclude_listing(run_id, part)


@app.task(name=FULL_SYNC, queue=slices.BULK, retry=RETRY_STRATEGY)
def full_sync() -> None:
    """Hand a full sync out to the workers, unless another one is running."""
    try:
        with paced():
            syncing.enqueue_full_sync()
    except SyncAlreadyRunning as error:
        logger.info("No full sync was begun: %s", error)


@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=MAINTENANCE, queueing_lock="end_abandoned_runs")
def end_abandoned_runs(timestamp: int) -> None:
    """End runs that wait for nothing any more: their jobs have failed, or their process died."""
    slices.end_abandoned_runs()
    records.interrupt_dead()


@receiver(nightly, dispatch_uid=FULL_SYNC)
def sync_nightly(**_: Any) -> None:
    """Put a full sync on the queue every night, whatever webhooks were lost."""
    with suppress(AlreadyEnqueued):
        queue.defer_job(slices.job(FULL_SYNC, queueing_lock=FULL_SYNC))
