"""Jobs of `manage.py procrastinate worker`: bulk work, and creations that got no answer."""

from collections.abc import Sequence
from typing import Any

from django.dispatch import receiver
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job

from clerk_integration.jobs import MAINTENANCE, queue
from clerk_integration.pace import paced
from clerk_integration.signals import nightly
from tenants.backfill import queueing
from tenants.backfill.abandoned import finish_abandoned
from tenants.reconcile import nightly_full_sync, resolve_creations

EVERY_MINUTE = "* * * * *"

FULL_SYNC = "tenants.tasks.full_sync"


@app.task(
    name=queueing.MIGRATE_SLICE,
    queue=queueing.BULK,
    retry=RetryStrategy(max_attempts=8, exponential_wait=4),
)
def migrate_slice(run_id: int, number: int, rows: Sequence[dict[str, Any]]) -> None:
    """Migrate some tenants of a run; see `queueing.migrate_slice`. Tried again while Clerk is down."""
    queueing.migrate_slice(run_id, number, rows)


# The queueing lock keeps these from piling up. A `lock` would let one that was killed stop all later ones.
@app.periodic(cron=EVERY_MINUTE)
@app.task(queue=MAINTENANCE, queueing_lock="settle_creations")
def settle_creations(timestamp: int) -> None:
    """Find out what creations without an answer came to, and finish the tenants that a migration left."""
    with paced():
        resolve_creations()
    finish_abandoned()


@app.task(name=FULL_SYNC, queue=queueing.BULK)
def full_sync() -> None:
    """Bring the mirror level with Clerk at the shared pace; nothing to do while somebody else is at it."""
    with paced():
        nightly_full_sync()


def enqueue_full_sync() -> bool:
    """Put a full sync on the queue; False when one is waiting there already."""
    job = Job(task_name=FULL_SYNC, queue=queueing.BULK, task_kwargs={}, lock=None, queueing_lock=FULL_SYNC)
    try:
        queue.defer_job(job)
    except AlreadyEnqueued:
        return False
    return True


@receiver(nightly, dispatch_uid=FULL_SYNC)
def sync_nightly(**_: Any) -> None:
    """Every night the mirror is brought level, whatever webhooks were lost."""
    enqueue_full_sync()
