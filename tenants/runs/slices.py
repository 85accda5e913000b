"""Runs that workers share: cut into slices, one job each, and on record until the last one is closed.

Slices and their jobs are committed together, so that no run is half on the queue. A slice may be done
more than once (its worker was killed, or frozen and given up); who closes the last one of a part says
what comes next.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import transaction
from django.db.models.functions import Now
from procrastinate.jobs import Job
from procrastinate.types import JSONDict

from clerk_integration.jobs.queue import queue
from tenants.exceptions import SyncLost
from tenants.models import SyncRun, SyncRunSlice
from tenants.runs.leases import held_runs
from tenants.runs.records import WORKERS
from tenants.sql import query

logger = logging.getLogger(__name__)

BULK = "bulk"
"""The queue of long work, which a worker of its own may take."""

BULK_PRIORITY = -10
"""Deliveries have 0: a worker that takes all queues turns to them first."""

UNFINISHED = """
SELECT FROM procrastinate_jobs AS job
WHERE job.queue_name = %(queue)s AND job.status IN ('todo', 'doing')
  AND (job.args ->> 'run_id')::bigint = run.id
"""

PROBLEMS = """
coalesce((
    SELECT string_agg(outcome.value ->> 'problem' || E'\\n', ''
                      ORDER BY slice.number, length(outcome.key), outcome.key)
    FROM sync_run_slices AS slice, jsonb_each(slice.outcomes) AS outcome
    WHERE slice.run_id = run.id AND outcome.value ->> 'problem' <> ''), '')
"""

END_ABANDONED = f"""
WITH slices AS MATERIALIZED (
    SELECT run_id, count(*) AS of, count(closed_at) AS done FROM sync_run_slices GROUP BY run_id)
UPDATE sync_runs AS run
SET state = 'failed', finished_at = clock_timestamp(), lease_expires_at = NULL,
    error = run.error || {PROBLEMS} || format(%(error)s, slices.of - slices.done, slices.of)
FROM slices
WHERE slices.run_id = run.id AND run.state = 'running' AND NOT EXISTS ({UNFINISHED})
RETURNING run.id
"""

WAITING = f"""
SELECT run.id FROM sync_runs AS run
WHERE run.kind = %(kind)s AND run.state = 'running' AND EXISTS ({UNFINISHED})
"""

ABANDONED = (
    "The workers gave up with %s of %s slices open: their jobs failed, and the log of the workers says why."
    " What is done is kept. Start it again when the cause is gone."
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run: its name, the task that does a slice of it, and what each slice's job is told.

    The task gets `run_id` and `number` besides.
    """

    name: str
    task_name: str
    slices: Sequence[JSONDict]


def hand_out(run: SyncRun, part: Part, *, holder: str = WORKERS) -> None:
    """Put a part of a run on the queue, to be held by `holder`; all of it or nothing.

    Writes `sync_runs`, `sync_run_slices` and the jobs. Raise SyncLost when the run is not ours any more.
    """
    with transaction.atomic():
        if not held_runs(run).update(holder=holder, lease_expires_at=None):
            raise SyncLost(f"Run {run.pk} was taken over by another process, so this one has stopped.")
        SyncRunSlice.objects.bulk_create(
            SyncRunSlice(run=run, part=part.name, number=number) for number in range(len(part.slices))
        )
        if part.slices:
            queue.batch_defer_jobs(_jobs(run, part))
    run.refresh_from_db()


def close(run_id: int, part: str, number: int, *, broken: bool = False) -> bool:
    """Record that a slice is done, and return whether no slice of the part is left. Writes the slice."""
    slices = SyncRunSlice.objects.filter(run_id=run_id, part=part)
    slices.filter(number=number, closed_at=None).update(closed_at=Now(), broken=broken)
    return not slices.filter(closed_at=None).exists()


@contextmanager
def unclosed(run_id: int, part: str, number: int) -> Iterator[SyncRunSlice | None]:
    """Hold a slice for the transaction that the block is; None when it is closed, so that all is said."""
    slices = SyncRunSlice.objects.filter(run_id=run_id, part=part, number=number, closed_at=None)
    with transaction.atomic():
        yield slices.select_for_update().first()


def problems_of(run_id: int) -> str:
    """Return the lines for a person that the outcomes of a run's slices hold, in the slices' order."""
    [(problems,)] = query(f"SELECT {PROBLEMS} FROM sync_runs AS run WHERE run.id = %(run)s", run=run_id)
    return str(problems)


def waiting_runs(kind: SyncRun.Kind) -> list[int]:
    """Return the runs that have jobs on the queue, or in a worker's hands."""
    return [run_id for (run_id,) in query(WAITING, kind=kind, queue=BULK)]


def end_abandoned_runs() -> int:
    """Record as failed what has slices and no job for them any more; return how many. One statement."""
    ended = [run_id for (run_id,) in query(END_ABANDONED, error=ABANDONED, queue=BULK)]
    if ended:
        logger.error("Workers gave up runs", extra={"runs": ended})
    return len(ended)


def _jobs(run: SyncRun, part: Part) -> list[Job]:
    return [
        Job(
            task_name=part.task_name,
            queue=BULK,
            priority=BULK_PRIORITY,
            task_kwargs={"run_id": run.pk, "number": number, **arguments},
            lock=None,
            queueing_lock=None,
        )
        for number, arguments in enumerate(part.slices)
    ]
