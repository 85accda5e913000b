"""Jobs of `manage.py procrastinate worker`: bulk work in slices, and creations that got no answer.

Full syncs enqueue themselves here as well; what they do stands in `reconcile`.
"""

from collections.abc import Sequence
from typing import Any

from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from clerk_integration.jobs import MAINTENANCE
from clerk_integration.pace import paced
from tenants.backfill import queueing
from tenants.backfill.abandoned import finish_abandoned
from tenants.reconcile.creations import resolve_creations

EVERY_MINUTE = "* * * * *"


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
