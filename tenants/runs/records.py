"""Full syncs on record: who runs one, whether it can be resumed, and how it ended.

One runs at a time, under an advisory lock of a database session: alone where one process does it all,
shared among the workers that do the slices of one. The lock belongs to a connection of its own, which
nothing else closes or reuses; a process that dies loses it, however it dies. A proxy that gives
sessions to others between transactions (pgbouncer in transaction mode) breaks such locks, so
DATABASE_URL must not lead through one for commands and workers. Even then no two runs mix: every page
is recorded on the condition that the run is still its holder's.

Migrations and links may run at the same time: each holds a lock of its own, in the same way, which
tells the next one that its process is alive.
"""

import getpass
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError, connection
from django.db.backends.utils import CursorWrapper
from django.db.models import F, Value
from django.db.models.functions import Concat, Now

from clerk_integration.exceptions import ClerkError, ClerkUnavailable
from tenants.exceptions import SyncAlreadyRunning, SyncError, SyncLost
from tenants.models import SyncRun, SyncRunPage
from tenants.sql import execute, query

TRANSIENT = (ClerkUnavailable, DatabaseError, InterfaceError)
"""What may be better when it is tried again: an outage, a deadlock, a connection that was cut."""

RUN_LOCK = 0x636C6B03
"""Key of the advisory lock of full syncs; any constant of ours will do."""

PROCESS_LOCK = 0x636C6B04
"""First key of the advisory lock of a run that one process carries out; any constant of ours will do."""

RESUME_WITHIN = timedelta(hours=1)
"""How old a run may be that is resumed: what its pages said is as old."""

# Overlapping pages show a record twice, and a resumed run reads some again: so this count is made anew.
FINISH = """
UPDATE sync_runs
SET state = %(state)s, error = %(error)s, finished_at = clock_timestamp(),
    unchanged = greatest(0, (SELECT count(*) FROM (
        SELECT DISTINCT listing, unnest(ids) FROM sync_run_pages WHERE run_id = %(run)s) AS listed)
        - created - updated)
WHERE id = %(run)s AND state = 'running' AND holder = %(holder)s
"""

TAKE_OVER = """
UPDATE sync_runs SET holder = %(holder)s
WHERE id = %(run)s AND state = 'running' AND starts_with(holder, %(expected)s) RETURNING id
"""

# A lock with two keys has integers, and the id of a run may be larger.
LOCK_FREE = """
SELECT id FROM unnest(%s::bigint[]) AS id WHERE pg_try_advisory_lock(%s, mod(id, 2147483648)::integer)
"""

RESERVE = """
WITH reserved AS MATERIALIZED (SELECT nextval(pg_get_serial_sequence('sync_runs', 'id')) AS id)
SELECT id, pg_advisory_lock(%s, mod(id, 2147483648)::integer) FROM reserved
"""

DIED = "Its process ended without a word."


@contextmanager
def carried_out_here(kind: SyncRun.Kind, **cursor: Any) -> Iterator[SyncRun]:
    """Put a run on record that the block carries out; several may be at work at the same time.

    The run's lock is held from before its row is there, so that a run of this kind that says
    `running`, has no slices and whose lock is free has lost its process: those are recorded as
    interrupted first. What the block raises ends the run as failed. Writes `sync_runs`.
    """
    with _own_session() as session:
        _interrupt_dead(kind, session)
        session.execute(RESERVE, [PROCESS_LOCK])
        run_id, _ = session.fetchone()
        run = SyncRun.objects.create(pk=run_id, kind=kind, holder=this_process(), cursor=cursor)
        try:
            yield run
        except BaseException as error:
            running = SyncRun.objects.filter(pk=run_id, state=SyncRun.State.RUNNING)
            said = Concat("error", Value(f"{type(error).__name__}: {error}"))
            with suppress(DatabaseError):  # It is what has ended the run, perhaps.
                running.update(state=SyncRun.State.FAILED, error=said, finished_at=Now())
            raise


@contextmanager
def sole_full_sync() -> Iterator[None]:
    """Keep all other full syncs away; raise SyncAlreadyRunning, which names the one that is running."""
    with _session_lock("SELECT pg_try_advisory_lock(%s)"):
        yield


@contextmanager
def shared_full_sync() -> Iterator[None]:
    """Do a slice of a full sync, beside others of the same one; raise SyncAlreadyRunning as above."""
    with _session_lock("SELECT pg_try_advisory_lock_shared(%s)"):
        yield


def begin_or_resume(*, instance_id: str, skip_memberships: bool) -> tuple[SyncRun, bool]:
    """Return the run to carry on, and whether it began earlier; to be called as the sole full sync.

    An interrupted run that is younger than an hour, of the same instance and extent, is resumed,
    unless it is one of workers. Writes `sync_runs`, and what `begin` does otherwise.
    """
    _interrupt_running()
    wanted = {"instance_id": instance_id, "cursor__skip_memberships": skip_memberships}
    syncs = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC)
    latest = syncs.filter(started_at__gt=Now() - RESUME_WITHIN).first()
    resumable = syncs.filter(state=SyncRun.State.INTERRUPTED, slices=None, **wanted)
    if latest is not None and resumable.filter(pk=latest.pk).exists():
        SyncRun.objects.filter(pk=latest.pk).update(
            state=SyncRun.State.RUNNING, holder=this_process(), error="", finished_at=None
        )
        latest.refresh_from_db()
        return latest, True
    return begin(instance_id=instance_id, skip_memberships=skip_memberships), False


def begin(*, instance_id: str, **cursor: Any) -> SyncRun:
    """Put a new run on record; to be called as the sole full sync.

    A run that says `running` has lost its process, or waits for workers that will find it replaced:
    it counts as interrupted. Writes `sync_runs`, and deletes the pages of earlier runs.
    """
    _interrupt_running()
    # Only a run that may be resumed needs its pages, and none of the earlier ones will be.
    SyncRunPage.objects.filter(run__kind=SyncRun.Kind.FULL_SYNC).delete()
    run = SyncRun.objects.create(
        kind=SyncRun.Kind.FULL_SYNC, holder=this_process(), instance_id=instance_id, cursor=cursor
    )
    run.refresh_from_db()
    return run


def take_over(run: SyncRun, holder: str, *, expected: str) -> None:
    """Become the holder of a run whose holder's name begins with `expected`. Writes `sync_runs`.

    Who held it before can record nothing more. Raise SyncLost when the run has ended or gone on.
    """
    if not query(TAKE_OVER, run=run.pk, holder=holder, expected=expected):
        raise SyncLost(f"Full sync {run.pk} has ended or gone on without this process, which has stopped.")
    run.refresh_from_db()


def count(run: SyncRun, **counts: int) -> None:
    """Add to the run's counts, such as `retired=1`. Writes `sync_runs`."""
    SyncRun.objects.filter(pk=run.pk).update(**{name: F(name) + value for name, value in counts.items()})


def finish(run: SyncRun, state: SyncRun.State, error: str = "") -> None:
    """Record how the run ended, unless somebody else holds it by now. Writes `sync_runs`."""
    execute(FINISH, run=run.pk, holder=run.holder, state=state, error=error)
    run.refresh_from_db()


@contextmanager
def failures_on_record(run: SyncRun, *, spared: tuple[type[BaseException], ...]) -> Iterator[None]:
    """End the run as failed by whatever the block raises, unless it is `spared`. Writes `sync_runs`."""
    try:
        yield
    except spared:
        raise
    except (SyncError, ClerkError) as error:
        finish(run, SyncRun.State.FAILED, str(error))
        raise
    except BaseException as error:
        finish(run, SyncRun.State.FAILED, f"{type(error).__name__}: {error}")
        raise


def last_complete(**filters: Any) -> SyncRun | None:
    """Return the latest full sync that came to its end."""
    complete: Mapping[str, Any] = {"kind": SyncRun.Kind.FULL_SYNC, "state": SyncRun.State.COMPLETED}
    return SyncRun.objects.filter(**complete, **filters).first()


def this_process() -> str:
    """Say who runs this, as `SyncRun.holder` does: user, machine, process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container may run under a number that has no name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"[:255]


@contextmanager
def _session_lock(statement: str) -> Iterator[None]:
    with _own_session() as session:
        session.execute(statement, [RUN_LOCK])
        [taken] = session.fetchone()
        if not taken:
            raise SyncAlreadyRunning(_who_runs())
        yield


@contextmanager
def _own_session() -> Iterator[CursorWrapper]:
    """A session of our own, whose advisory locks end with the block, or with the process."""
    session = connection.copy()
    try:
        with session.cursor() as cursor:
            try:
                yield cursor
            finally:
                # A session ends some time after it is closed; who comes next must not find the lock taken.
                with suppress(DatabaseError):
                    cursor.execute("SELECT pg_advisory_unlock_all()")
    finally:
        session.close()


def _interrupt_dead(kind: SyncRun.Kind, session: CursorWrapper) -> None:
    running = SyncRun.objects.filter(kind=kind, state=SyncRun.State.RUNNING, slices=None)
    session.execute(LOCK_FREE, [list(running.values_list("pk", flat=True)), PROCESS_LOCK])
    # Asked again under the locks: one may have ended in between, or have been handed to workers.
    dead = running.filter(pk__in=[run_id for (run_id,) in session.fetchall()])
    dead.update(state=SyncRun.State.INTERRUPTED, error=Concat("error", Value(DIED)), finished_at=Now())


def _interrupt_running() -> None:
    running = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC, state=SyncRun.State.RUNNING)
    for run in running:
        error = (
            "Another full sync took its place."
            if run.slices.exists()
            else "Its process ended without a word."
        )
        running.filter(pk=run.pk).update(state=SyncRun.State.INTERRUPTED, finished_at=Now(), error=error)


def _who_runs() -> str:
    run = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC, state=SyncRun.State.RUNNING).first()
    if run is None:
        return "Another full sync has just begun. Nothing was done; try again when it has ended."
    return (
        f"Full sync {run.pk} is running already: {run.holder}, since {run.started_at:%Y-%m-%d %H:%M:%S} UTC."
        " Nothing was done; try again when it has ended."
    )
