"""Divide a run into slices, which this process or any number of workers do.

Each kind of run has a function `do` that does one slice, and a function that concludes a part of the run:

1. Begin a run: `records.recorded_run` (several runs at a time) or `records.begin` (only one full sync).
2. `plan(run, part, arguments)` stores one open slice for each item of `arguments`.
3. Then either `carry(run, part, do, concurrency=...)` does the slices in this process, in the order of the
   plan, or `hand_out(run, part, task_name)` puts one job for each slice on the queue. The job gets `run_id`,
   `part` and `number`, and calls `carry_one`, which returns whether all slices of the part are closed.
4. The process that closed the last slice concludes the part: it plans the next part, or ends the run.

`do` gets the row of the slice. `arguments` comes from the plan; `do` sets `broken` and `outcomes`. A slice
may be done twice, because its worker was killed or did not respond. So `do` must continue after the results
that are already recorded. To resume an interrupted run, call `carry` for its open slices.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from procrastinate.jobs import Job
from procrastinate.types import JSONDict, JSONValue

from clerk_integration.jobs.queue import queue
from tenants.models import SyncRun, SyncRunSlice
from tenants.runs.leases import held_runs, lost
from tenants.runs.records import WORKERS
from tenants.sql import execute, query

logger = logging.getLogger(__name__)

Do = Callable[[SyncRunSlice], None]

BULK = "bulk"
"""The queue of long work. A worker can be limited to this queue."""

BULK_PRIORITY = -10
"""Below all other jobs, so that a worker of all queues does those first."""

JOBS_AT_ONCE = 100
"""Number of jobs that one statement puts on the queue."""

PLAN_ROWS = """
WITH placed AS (
    SELECT id, (row_number() OVER (ORDER BY id) - 1) / %s AS number FROM ({selection}) AS selected (id)),
planned AS (
    INSERT INTO sync_run_slices (run_id, part, number, arguments, broken, outcomes)
    SELECT %s, %s, number, jsonb_build_object('ids', jsonb_agg(id ORDER BY id)), false, '{{}}'
    FROM placed GROUP BY number
    RETURNING jsonb_array_length(arguments -> 'ids') AS ids)
SELECT coalesce(sum(ids), 0) FROM planned
"""

HAS_RESULT = """EXISTS (
    SELECT FROM jsonb_each(slice.outcomes) AS outcome
    WHERE outcome.value ->> 'result' = ANY (%(results)s::text[]))
"""

LEFT = f"""
SELECT number FROM sync_run_slices AS slice
WHERE run_id = %(run)s AND part = %(part)s AND (closed_at IS NULL OR {HAS_RESULT})
LIMIT 1
"""

REOPEN = f"""
UPDATE sync_run_slices AS slice SET closed_at = NULL
WHERE run_id = %(run)s AND part = %(part)s AND closed_at IS NOT NULL AND {HAS_RESULT}
"""

WITHDRAW = """
DELETE FROM procrastinate_jobs
WHERE queue_name = %(queue)s AND status = 'todo' AND (args ->> 'run_id')::bigint = %(run)s
"""

UNFINISHED_JOBS = """
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
WHERE slices.run_id = run.id AND run.state = 'running' AND starts_with(run.holder, %(workers)s)
  AND NOT EXISTS ({UNFINISHED_JOBS})
RETURNING run.id
"""

WAITING = f"""
SELECT run.id FROM sync_runs AS run
WHERE run.kind = %(kind)s AND run.state = 'running' AND EXISTS ({UNFINISHED_JOBS})
"""

ABANDONED = (
    "The run ended with %s of %s slices not done, because their jobs failed. The results of the other slices"
    " are kept. Find the cause in the log of the workers, remove it, and start the run again."
)


def plan(run: SyncRun, part: str, arguments: Sequence[JSONDict]) -> None:
    """Store a part of the plan, one open slice for each item; do nothing if the part is already planned."""
    SyncRunSlice.objects.bulk_create(
        (
            SyncRunSlice(run=run, part=part, number=number, arguments=item)
            for number, item in enumerate(arguments)
        ),
        batch_size=1000,
        ignore_conflicts=True,
    )


def plan_rows(run: SyncRun, part: str, rows: QuerySet[Any], *, size: int) -> int:
    """Store a part of the plan: slices with the ids of `size` rows; return the number of rows.

    The database selects the rows, in one statement, so that any number of them takes no memory here.
    """
    try:
        selection, parameters = rows.order_by().values("pk").query.sql_with_params()
    except EmptyResultSet:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(PLAN_ROWS.format(selection=selection), [size, *parameters, run.pk, part])
        [planned] = cursor.fetchone() or (0,)
    return int(planned)


def carry(run: SyncRun, part: str, do: Do, *, concurrency: int = 1, stopping: Event | None = None) -> None:
    """Do the open slices of a part in this process, `concurrency` at a time, and close each slice.

    Begin no slice after `stopping` is set or a slice has raised an exception. Raise the first exception when
    the slices that were begun have ended. If `concurrency` is more than 1, `do` runs in threads.
    """
    opened = deque(run.slices.filter(part=part, closed_at=None).order_by("number"))
    ending = (stopping or Event(), Event())

    def work() -> None:
        while opened and not any(event.is_set() for event in ending):
            try:
                piece = opened.popleft()
            except IndexError:  # Another thread took the last slice.
                return
            with _set_on_failure(ending[1]):
                do(piece)
                close(piece)

    if concurrency == 1:
        work()
        return
    with ThreadPoolExecutor(concurrency, thread_name_prefix=f"run-{run.pk}") as pool:
        threads = [pool.submit(_in_own_connection, work) for _ in range(concurrency)]
        with _set_on_failure(ending[1]):
            for thread in threads:
                thread.result()


def hand_out(run: SyncRun, part: str, task_name: str, *, holder: str = WORKERS) -> None:
    """Put a job for each open slice of the part on the queue, and make `holder` the holder of the run.

    Write `sync_runs` and the jobs in one transaction. Raise SyncLost if this process no longer holds the run.
    """
    with transaction.atomic():
        if not held_runs(run).update(holder=holder, lease_expires_at=None):
            raise lost(run)
        open_slices = run.slices.filter(part=part, closed_at=None).order_by("number")
        numbers = open_slices.values_list("number", flat=True)
        last = -1
        while some := list(numbers.filter(number__gt=last)[:JOBS_AT_ONCE]):
            queue.batch_defer_jobs(
                [job(task_name, run_id=run.pk, part=part, number=number) for number in some]
            )
            last = some[-1]
    run.refresh_from_db()


def reopen(run: SyncRun, part: str, results: Sequence[str]) -> None:
    """Reopen the slices of this part of the run that contain an item with one of the results."""
    execute(REOPEN, run=run.pk, part=part, results=list(results))


def has_left(run: SyncRun, part: str, results: Sequence[str]) -> bool:
    """Return whether a slice of the part is open, or an item has one of the results."""
    return bool(query(LEFT, run=run.pk, part=part, results=list(results)))


def withdraw(run: SyncRun) -> None:
    """Delete the jobs of the run that no worker has begun."""
    execute(WITHDRAW, run=run.pk, queue=BULK)


def job(task_name: str, *, queueing_lock: str | None = None, **arguments: JSONValue) -> Job:
    """Return a job for the queue of long work."""
    return Job(
        task_name=task_name,
        queue=BULK,
        priority=BULK_PRIORITY,
        task_kwargs=arguments,
        lock=None,
        queueing_lock=queueing_lock,
    )


def carry_one(run: SyncRun, part: str, number: int, do: Do) -> bool:
    """Do and close one slice, unless it is closed; return whether all slices of the part are closed."""
    piece = run.slices.get(part=part, number=number)
    if piece.closed_at is None:
        do(piece)
    return close(piece)


def close(piece: SyncRunSlice) -> bool:
    """Record that a slice is done; return whether all slices of its part are closed. Write the slice."""
    siblings = SyncRunSlice.objects.filter(run_id=piece.run_id, part=piece.part, closed_at=None)
    siblings.filter(number=piece.number).update(closed_at=Now(), broken=piece.broken)
    return not siblings.exists()


@contextmanager
def locked(piece: SyncRunSlice) -> Iterator[SyncRunSlice]:
    """Run the block in a transaction; read the slice from the database, lock it, and yield it."""
    with transaction.atomic():
        yield SyncRunSlice.objects.select_for_update().get(pk=piece.pk)


def problems_of(run_id: int) -> str:
    """Return the problems in the outcomes of a run's slices, one line each, in the order of the plan."""
    [(problems,)] = query(f"SELECT {PROBLEMS} FROM sync_runs AS run WHERE run.id = %(run)s", run=run_id)
    return str(problems)


def waiting_runs(kind: SyncRun.Kind) -> list[int]:
    """Return the ids of the runs that have a job on the queue or a job that a worker is doing."""
    return [run_id for (run_id,) in query(WAITING, kind=kind, queue=BULK)]


def end_abandoned_runs() -> int:
    """Record runs of workers that have no job left as failed; return their number. Run one statement."""
    ended = [run_id for (run_id,) in query(END_ABANDONED, error=ABANDONED, queue=BULK, workers=WORKERS)]
    if ended:
        logger.error("Ended runs whose jobs have failed", extra={"runs": ended})
    return len(ended)


@contextmanager
def _set_on_failure(event: Event) -> Iterator[None]:
    try:
        yield
    except BaseException:
        event.set()
        raise


def _in_own_connection(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        connection.close()
