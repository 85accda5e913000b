"""Define the jobs of `manage.py procrastinate worker`: bulk work, and creations without an answer."""

import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now
from django.dispatch import receiver
from procrastinate import JobContext, RetryStrategy
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued

from clerk_integration.exceptions import ClerkError
from clerk_integration.jobs.queue import MAINTENANCE, queue
from clerk_integration.signals import nightly
from clerk_integration.wire.pace import paced
from tenants.backfill import run as migrating
from tenants.backfill.abandoned import finish_abandoned
from tenants.batches import jobs
from tenants.exceptions import SyncAlreadyRunning, SyncError, TenantError
from tenants.history import delete_old_history
from tenants.models import CreationAttempt, RequestCount
from tenants.monitoring import alerts
from tenants.reconcile import dry_run, resolve_creations
from tenants.reconcile import full_sync as syncing
from tenants.reconcile.dry_run import RECORD_DRY_RUN
from tenants.runs import records, slices

logger = logging.getLogger(__name__)

EVERY_MINUTE = "* * * * *"

FULL_SYNC = "tenants.tasks.full_sync"
NIGHTLY_SYNC = "tenants.tasks.dry_run_then_full_sync"
SETTLE_CREATIONS = "tenants.tasks.settle_creations"

RETRY_STRATEGY = RetryStrategy(max_attempts=5, exponential_wait=4, retry_exceptions=records.TRANSIENT)
"""Retry after 4, 16, 64, 256 and 1,024 seconds: the data of a full sync is then half an hour old."""


@app.task(
    name=migrating.MIGRATE_SLICE, queue=slices.BULK, retry=RetryStrategy(max_attempts=8, exponential_wait=4)
)
def migrate_slice(run_id: int, part: str, number: int) -> None:
    """Migrate a slice of a run's tenants; retry while Clerk is down. See `backfill.run`."""
    migrating.migrate_slice(run_id, part, number)


@app.task(name=jobs.BATCH_SLICE, queue=slices.BULK, retry=RetryStrategy(max_attempts=8, exponential_wait=4))
def batch_slice(run_id: int, part: str, number: int) -> None:
    """Carry out a staff batch for a slice of its tenants; retry while Clerk is down. See `batches.jobs`."""
    jobs.carry_slice(run_id, number)


# `queueing_lock` allows one waiting job at a time. With `lock`, a killed job would block all later jobs.
@app.periodic(cron=EVERY_MINUTE)
@app.task(name=SETTLE_CREATIONS, queue=MAINTENANCE, queueing_lock="settle_creations", pass_context=True)
def settle_creations(context: JobContext, timestamp: int) -> None:
    """Find out what became of creations whose reply was lost, and finish migrations that were interrupted."""
    working = ProcrastinateJob.objects.filter(task_name=SETTLE_CREATIONS, status="doing")
    if working.exclude(pk=context.job.id).exists():
        return
    CreationAttempt.objects.correct_sent_at()
    with paced():
        resolve_creations()
    finish_abandoned()


@app.task(name=syncing.SYNC_SLICE, queue=slices.BULK, retry=RETRY_STRATEGY)
def sync_slice(run_id: int, part: str, number: int) -> None:
    """Read and mirror one slice of a full sync's list; see `reconcile.full_sync.sync_slice`."""
    with paced():
        syncing.sync_slice(run_id, part, number)


@app.task(name=syncing.CONCLUDE_LISTING, queue=slices.BULK, retry=RETRY_STRATEGY)
def conclude_listing(run_id: int, part: str) -> None:
    """Finish a full sync's list after its slices; see `reconcile.full_sync.conclude_listing`."""
    with paced():
        syncing.conclude_listing(run_id, part)


@app.task(name=FULL_SYNC, queue=slices.BULK, retry=RETRY_STRATEGY)
def full_sync() -> None:
    """Enqueue the jobs of a full sync, unless another full sync is running."""
    try:
        with paced():
            syncing.enqueue_full_sync()
    except SyncAlreadyRunning as error:
        logger.info("No full sync was begun: %s", error)


@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=MAINTENANCE, queueing_lock="end_abandoned_runs")
def end_abandoned_runs(timestamp: int) -> None:
    """End runs that cannot continue because their jobs have failed or their process died."""
    slices.end_abandoned_runs()
    records.interrupt_dead()


@app.task(name=RECORD_DRY_RUN, queue=slices.BULK)
def record_dry_run(started_by: str = "") -> None:
    """Record how much the mirror differs from Clerk; see `reconcile.dry_run`. Clerk's errors end the run."""
    try:
        with paced():
            dry_run(lambda difference: None, started_by=started_by)
    except (SyncError, TenantError, ClerkError) as error:
        logger.warning("The dry run failed: %s", error)


@receiver(nightly, dispatch_uid=NIGHTLY_SYNC)
def sync_nightly(**_: Any) -> None:
    """Enqueue a dry run and a full sync every night, because webhooks may be lost."""
    with suppress(AlreadyEnqueued):
        queue.defer_job(slices.job(NIGHTLY_SYNC, queueing_lock=NIGHTLY_SYNC))


@app.task(name=NIGHTLY_SYNC, queue=slices.BULK)
def dry_run_then_full_sync() -> None:
    """Record how much the mirror differs from Clerk, then enqueue the full sync that removes the drift."""
    try:
        with paced():
            dry_run(lambda difference: None)
    except (SyncError, TenantError, ClerkError) as error:
        logger.warning("The nightly dry run failed; the full sync is enqueued nevertheless: %s", error)
    with suppress(AlreadyEnqueued):
        queue.defer_job(slices.job(FULL_SYNC, queueing_lock=FULL_SYNC))


@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=MAINTENANCE, queueing_lock="send_alerts")
def send_alerts(timestamp: int) -> None:
    """Send the problems that a worker can see to SYNC_ALERT_WEBHOOK_URL; see `monitoring.alerts`."""
    alerts.send_alerts()


@receiver(nightly, dispatch_uid="tenants.tasks.delete_old_records")
def delete_old_records(**_: Any) -> None:
    """Delete runs, creation attempts, history and request counts that are no longer needed, every night."""
    logger.info(
        "deleted %d rows of old runs, %d creation attempts, %d rows of history, %d request counts",
        records.delete_old_runs(),
        CreationAttempt.objects.delete_old(),
        delete_old_history(),
        # A count is for a day at most.
        RequestCount.objects.filter(began_at__lt=Now() - timedelta(days=1)).delete()[0],
    )
