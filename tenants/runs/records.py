"""The rows in `sync_runs`: begin a run, resume it, take it over, and record how it ended.

Only one full sync runs at a time; a unique constraint and the lease of its row (see `leases`) ensure this.
Several migrations and link files may run at the same time. A page or a count is recorded only while the
process holds the run, so a process that lost its lease can record nothing more.
"""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import DatabaseError, IntegrityError, InterfaceError
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Concat, Now

from clerk_integration.exceptions import ClerkError, ClerkUnavailable
from clerk_integration.times import utc_text
from tenants.exceptions import SyncAlreadyRunning, SyncError
from tenants.models import SyncRun, SyncRunPage
from tenants.runs.leases import LEASE, Lease, held_runs, kept_alive, lost, shorten_future_leases
from tenants.sql import query

TRANSIENT = (ClerkUnavailable, DatabaseError, InterfaceError)
"""Errors after which a retry may succeed: an outage, a deadlock, a closed connection."""

RESUME_WITHIN = timedelta(hours=1)
"""Maximum age of a run that is resumed: its first pages are as old as the run."""

RETENTION = timedelta(days=90)
"""How long a run is kept after its end."""

_PROCESS_CODE = uuid4().hex[:8]

WORKERS = "workers"
"""Prefix of `SyncRun.holder` while workers do the slices of a run."""

DIED = "The process died without recording a result. Run the command again to resume."
REPLACED = "Another full sync took its place."

# Two pages may contain the same record, and a resumed run reads some records again. So recount `unchanged`.
FINISH = """
UPDATE sync_runs
SET state = %(state)s, error = %(error)s, finished_at = clock_timestamp(), lease_expires_at = NULL,
    unchanged = greatest(0, (SELECT count(*) FROM (
        SELECT DISTINCT listing, unnest(ids) FROM sync_run_pages WHERE run_id = %(run)s) AS listed)
        - created - updated)
WHERE id = %(run)s AND state = 'running' AND holder = %(holder)s
RETURNING id
"""


@contextmanager
def recorded_run(kind: SyncRun.Kind, *, started_by: str = "", **cursor: Any) -> Iterator[Lease]:
    """Record the block as a new run, and renew its lease. Several such runs may exist at the same time.

    First record the runs of this kind whose process died as interrupted. If the block raises an exception,
    record the run as failed. Write `sync_runs`.
    """
    interrupt_dead(kind)
    run = SyncRun.objects.create(
        kind=kind,
        started_by=started_by,
        holder=this_process(),
        cursor=cursor,
        lease_expires_at=Now() + LEASE,
    )
    run.refresh_from_db()
    try:
        with kept_alive(run) as lease:
            yield lease
    except BaseException as error:
        message = Concat("error", Value(f"{type(error).__name__}: {error}"))
        with suppress(DatabaseError):  # The exception may come from the database.
            held_runs(run).update(
                state=SyncRun.State.FAILED, error=message, finished_at=Now(), lease_expires_at=None
            )
        raise


def begin_or_resume(*, instance_id: str, skip_memberships: bool, **cursor: Any) -> tuple[SyncRun, bool]:
    """Begin a full sync, or resume the last one; return the run, and whether it was resumed.

    Resume the last full sync if it began less than an hour ago, was interrupted or lost its process, and has
    the same instance and the same `skip_memberships`. Do not resume a run of workers. Raise
    SyncAlreadyRunning while another process works on a full sync. Write the same tables as `begin`.
    """
    _interrupt_abandoned_full_sync()
    latest = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC).values("pk")[:1]
    resumable = SyncRun.objects.filter(
        pk=latest,
        state=SyncRun.State.INTERRUPTED,
        started_at__range=(Now() - RESUME_WITHIN, Now()),
        instance_id=instance_id,
        cursor__skip_memberships=skip_memberships,
    ).exclude(holder__startswith=WORKERS)
    for run in resumable:
        with suppress(IntegrityError):  # Another process has begun a full sync meanwhile.
            if resumable.update(
                state=SyncRun.State.RUNNING,
                error="",
                finished_at=None,
                holder=this_process(),
                lease_expires_at=Now() + LEASE,
                cursor=run.cursor | cursor,
            ):
                run.refresh_from_db()
                return run, True
    return _begin(instance_id, skip_memberships=skip_memberships, **cursor), False


def begin(*, instance_id: str, **cursor: Any) -> SyncRun:
    """Begin a new full sync; raise SyncAlreadyRunning, which names the holder, while another full sync runs.

    Record a full sync as interrupted if its lease has expired or if it waits for workers. Write `sync_runs`,
    and delete the pages of earlier full syncs.
    """
    _interrupt_abandoned_full_sync()
    return _begin(instance_id, **cursor)


def take_over(run: SyncRun, holder: str, *, expected: str) -> None:
    """Make `holder` the holder of a run whose current holder begins with `expected`. Write `sync_runs`.

    The previous holder can record nothing more. Raise SyncLost if the run has ended or has another holder.
    """
    waiting = SyncRun.objects.filter(pk=run.pk, state=SyncRun.State.RUNNING, holder__startswith=expected)
    if not waiting.update(holder=holder, lease_expires_at=Now() + LEASE):
        raise lost(run)
    run.refresh_from_db()


def interrupt_dead(*kinds: SyncRun.Kind) -> int:
    """Record as interrupted the runs of these kinds whose process died; return the number of these runs.

    Without `kinds`, check all kinds. Skip runs of workers: between two tries of a job, no process renews
    their lease.
    """
    shorten_future_leases()
    running = SyncRun.objects.filter(kind__in=kinds or SyncRun.Kind, state=SyncRun.State.RUNNING)
    dead = running.filter(lease_expires_at__lte=Now()).exclude(holder__startswith=WORKERS)
    return dead.update(**_interruption(Value(DIED)))


def is_for_workers(run: SyncRun) -> bool:
    """Return whether workers carry out the run; if not, its own process does, or the run has ended."""
    return run.state == SyncRun.State.RUNNING and run.holder.startswith(WORKERS)


def count(run: SyncRun, **counts: int) -> None:
    """Add to the run's counts, such as `retired=1`; raise SyncLost if another process holds the run."""
    if not held_runs(run).update(**{name: F(name) + value for name, value in counts.items()}):
        raise lost(run)


def record_error(run: SyncRun, error: str) -> None:
    """Record an error that does not stop the run; the run will end as failed. Write `sync_runs`."""
    held_runs(run).update(error=error)
    run.error = error


def finish(run: SyncRun, state: SyncRun.State, error: str = "") -> bool:
    """Record the end of the run; return False if this process no longer holds it. Write `sync_runs`."""
    is_ours = bool(query(FINISH, run=run.pk, holder=run.holder, state=state, error=error))
    run.refresh_from_db()
    return is_ours


@contextmanager
def failures_on_record(run: SyncRun, *, spared: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Record the run as failed if the block raises an exception that is not `spared`. Write `sync_runs`."""
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


def delete_old_runs() -> int:
    """Delete the runs that ended more than RETENTION ago, except the last completed full sync."""
    old = SyncRun.objects.filter(finished_at__lt=Now() - RETENTION)
    last = last_complete()
    return (old.exclude(pk=last.pk) if last else old).delete()[0]


def last_complete() -> SyncRun | None:
    """Return the latest completed full sync, also one without memberships; None if there is none."""
    return SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC, state=SyncRun.State.COMPLETED).first()


def this_process() -> str:
    """Return the user, the host and the process, in the form of `SyncRun.holder`.

    The code at the end distinguishes containers whose host name and process id are the same.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # In a container, the user id may have no user name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:150] + f", process {os.getpid()} ({_PROCESS_CODE})"


def _begin(instance_id: str, **cursor: Any) -> SyncRun:
    try:
        run = SyncRun.objects.create(
            kind=SyncRun.Kind.FULL_SYNC,
            holder=this_process(),
            lease_expires_at=Now() + LEASE,
            instance_id=instance_id,
            cursor=cursor,
        )
    except IntegrityError:
        raise SyncAlreadyRunning(_running_full_sync()) from None
    # Only a run that may be resumed needs its pages. No earlier run will be resumed.
    SyncRunPage.objects.filter(run__kind=SyncRun.Kind.FULL_SYNC).exclude(run=run).delete()
    run.refresh_from_db()
    return run


def _interrupt_abandoned_full_sync() -> None:
    """Record the running full sync as interrupted if its lease has expired or if it waits for workers."""
    shorten_future_leases()
    abandoned = SyncRun.objects.filter(
        Q(lease_expires_at__lte=Now()) | Q(lease_expires_at=None),
        kind=SyncRun.Kind.FULL_SYNC,
        state=SyncRun.State.RUNNING,
    )
    is_of_workers = When(holder__startswith=WORKERS, then=Value(REPLACED))
    abandoned.update(**_interruption(Case(is_of_workers, default=Value(DIED))))


def _interruption(error: Any) -> dict[str, Any]:
    return {
        "state": SyncRun.State.INTERRUPTED,
        "error": Concat("error", error),
        "finished_at": Now(),
        "lease_expires_at": None,
    }


def _running_full_sync() -> str:
    run = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC, state=SyncRun.State.RUNNING).first()
    if run is None:
        return "Another full sync has just ended. Nothing was done; try again."
    return (
        f"Full sync {run.pk} is running already: {run.holder}, since {utc_text(run.started_at)}."
        " Nothing was done; try again when it has ended."
    )
