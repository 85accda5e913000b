"""The lease of a run: its row in `sync_runs` names the process that works on the run, and the expiry.

| state     | lease_expires_at | meaning                                                              |
| --------- | ---------------- | -------------------------------------------------------------------- |
| `running` | in the future    | `holder` works on the run                                            |
| `running` | in the past      | `holder` died; the next process may end, resume or replace the run   |
| `running` | NULL             | the run waits in the queue; its jobs say whether it is still alive   |
| any other | NULL             | the run has ended                                                    |

All times are taken from the database's clock. Leases need no database session, so they work with a
connection pool in transaction mode.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread

from django.db import Error, connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from tenants.exceptions import SyncLost
from tenants.models import SyncRun

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
"""Duration of a lease: other processes wait this long after the holder was killed."""

HEARTBEAT_SECONDS = 10.0
"""Interval of the renewals. Two renewals in a row may fail before the lease expires."""


def shorten_future_leases() -> None:
    """Let leases end in LEASE that end too far ahead: the database's clock was set back after their renewal.

    Otherwise a holder that died before that would block other processes until the clock has caught up. Twice
    the duration is allowed: a renewal may read the clock later than this statement. Write `sync_runs`.
    """
    running = SyncRun.objects.filter(state=SyncRun.State.RUNNING, lease_expires_at__gt=Now() + 2 * LEASE)
    running.update(lease_expires_at=Now() + LEASE)


def held_runs(run: SyncRun) -> QuerySet[SyncRun]:
    """Return the row of the run as a queryset; it is empty if `run.holder` no longer holds the run."""
    return SyncRun.objects.filter(pk=run.pk, state=SyncRun.State.RUNNING, holder=run.holder)


def renew(run: SyncRun) -> None:
    """Extend the lease of the run. Write `sync_runs`. Raise SyncLost if the process no longer holds it."""
    if not held_runs(run).update(lease_expires_at=Now() + LEASE):
        raise lost(run)


def lost(run: SyncRun) -> SyncLost:
    """Return the exception to raise in a process that no longer holds the run."""
    return SyncLost(
        f"Run {run.pk} has ended or was taken over by another process, so this one has stopped."
        " What it wrote is kept."
    )


class Lease:
    """A lease that a thread renews; `check` raises SyncLost after the lease was lost."""

    def __init__(self, run: SyncRun, *, every: float = HEARTBEAT_SECONDS) -> None:
        self.run = run
        self._every = every
        # A copy, because another holder may be written to `run`, and this lease is only for the first holder.
        self._held = SyncRun(pk=run.pk, holder=run.holder)
        self._lost: SyncLost | None = None
        self._stopping = Event()
        self._thread = Thread(target=self._beat, name=f"lease-of-run-{run.pk}", daemon=True)

    def check(self) -> None:
        """Raise SyncLost when another process has taken the run over or ended it."""
        if self._lost is not None:
            raise self._lost

    def start(self) -> None:
        """Begin to renew the lease, every `every` seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to renew the lease. The lease stays valid until it expires or the run ends."""
        self._stopping.set()
        self._thread.join(HEARTBEAT_SECONDS)

    def _beat(self) -> None:
        while self._lost is None and not self._stopping.wait(self._every):
            try:
                renew(self._held)
            except SyncLost as lost:
                self._lost = lost
            except Error as error:
                logger.warning("The lease of run %s was not renewed: %s", self.run.pk, error)
            finally:
                with suppress(Error):
                    connection.close()


@contextmanager
def kept_alive(run: SyncRun, *, every: float = HEARTBEAT_SECONDS) -> Iterator[Lease]:
    """Renew the lease of the run in a thread, every `every` seconds, until the block ends."""
    lease = Lease(run, every=every)
    lease.start()
    try:
        yield lease
    finally:
        lease.stop()
