"""Cancel a run, and resume a run that was cancelled, stopped or did not succeed for every item."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from django.db.models import Value
from django.db.models.functions import Concat, Now

from tenants.backfill import run as migration
from tenants.backfill.step import Result
from tenants.batches import jobs
from tenants.models import SyncRun
from tenants.runs import slices
from tenants.runs.leases import LEASE
from tenants.runs.records import WORKERS, this_process

Kind, State = SyncRun.Kind, SyncRun.State


class Resumable(NamedTuple):
    """The part of a run that workers can continue, and the results that are tried again."""

    part: str
    results: Sequence[str]
    task: str


RESUMABLE = {
    Kind.BATCH: Resumable(jobs.TENANTS, [jobs.FAILED], jobs.BATCH_SLICE),
    Kind.MIGRATION: Resumable(migration.TENANTS, [Result.FAILED, Result.CONFLICT], migration.MIGRATE_SLICE),
}


def cancel(run: SyncRun, *, acting_user: Any) -> bool:
    """Stop the run after its current item, slice or page; return False if it has ended already.

    What was done is kept. Write `sync_runs`, and delete the jobs that no worker has begun.
    """
    error = f"Cancelled by {acting_user.get_username()}." if acting_user else "Cancelled."
    running = SyncRun.objects.filter(pk=run.pk, state=State.RUNNING)
    cancelled = running.update(
        state=State.INTERRUPTED,
        error=Concat("error", Value(error)),
        finished_at=Now(),
        lease_expires_at=None,
    )
    slices.withdraw(run)
    run.refresh_from_db()
    return bool(cancelled)


def can_resume(run: SyncRun) -> bool:
    """Return whether workers can continue the run: it has ended, and items are left or have failed."""
    how = RESUMABLE.get(Kind(run.kind))
    if how is None or run.state not in (State.INTERRUPTED, State.FAILED):
        return False
    return slices.has_left(run, how.part, how.results)


def resume(run: SyncRun, *, acting_user: Any) -> bool:
    """Let workers try the items that are left or have failed; return False if the run cannot be resumed.

    Write `sync_runs`, `sync_run_slices` and the jobs. From now on, a batch runs for `acting_user`.
    """
    if not can_resume(run):
        return False
    ended = SyncRun.objects.filter(pk=run.pk, state=run.state)
    if not ended.update(
        state=State.RUNNING,
        error="",
        finished_at=None,
        holder=f"{this_process()}, {uuid4()}",
        lease_expires_at=Now() + LEASE,
    ):
        return False
    run.refresh_from_db()
    how = RESUMABLE[Kind(run.kind)]
    slices.withdraw(run)
    slices.reopen(run, how.part, how.results)
    if run.kind == Kind.BATCH:
        jobs.set_actor(run, acting_user)
    # A new holder, so that a job of an earlier start stops.
    slices.hand_out(run, how.part, how.task, holder=f"{WORKERS}, {uuid4()}")
    return True
