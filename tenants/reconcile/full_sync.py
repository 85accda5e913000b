"""The full sync: everything that Clerk has, mirrored; what it no longer has, retired.

First the organizations, by Clerk's listing, then the memberships of the whole instance by theirs: one
call and three statements for each 500, whatever their number. Each page is committed with its record,
so that a run that was stopped, or died, is resumed where it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from tenants.exceptions import SyncInterrupted, SyncLost
from tenants.models import SyncRun
from tenants.reconcile import absence
from tenants.reconcile.instances import right_instance
from tenants.reconcile.listings import MEMBERSHIPS, ORGANIZATIONS, Listing, sync_listing
from tenants.reconcile.progress import NoProgress, Progress
from tenants.runs import leases, records, slices

DEFAULT_MAX_RETIRE_PERCENT = 10.0
"""More than this part of the mirror missing in Clerk looks like a wrong key rather than like deletions."""


def run_full_sync(
    *,
    skip_memberships: bool = False,
    max_retire_percent: float = DEFAULT_MAX_RETIRE_PERCENT,
    progress: Progress | None = None,
    stopping: Event | None = None,
) -> SyncRun:
    """Bring the whole mirror level with Clerk; return the run, completed.

    Creates and updates tenants and memberships, settles creations whose reply was lost, makes
    tombstones of organizations that Clerk answers 404 for, and ends memberships that it no longer
    has. Spared: own columns, members of legacy tenants, and rows written since the run began. Writes
    `sync_runs` and `sync_run_pages` as it goes; resumes a run that was interrupted within the hour.

    `progress` is told how far it is; when `stopping` is set, the page at hand is finished first.
    Raise SyncError and ClerkError; what was written until then is kept, and the run says why it
    ended: TooManyAbsent when more than `max_retire_percent` (0 to 100) of the organizations, or of
    the memberships, would be retired, and then none of them is.
    """
    progress = progress or NoProgress()
    instance_id = right_instance()
    waiting = slices.waiting_runs(SyncRun.Kind.FULL_SYNC)
    run, resumed = records.begin_or_resume(instance_id=instance_id, skip_memberships=skip_memberships)
    for replaced in waiting:
        progress.note(f"Full sync {replaced}, which waits for workers, is replaced by this one.")
    if resumed:
        progress.note(f"Resuming full sync {run.pk}, which began {run.started_at:%Y-%m-%d %H:%M:%S} UTC.")
    guard = absence.Guard(run, max_percent=max_retire_percent)
    listings: list[Listing[Any]] = [ORGANIZATIONS] if skip_memberships else [ORGANIZATIONS, MEMBERSHIPS]
    with _recorded(run), leases.kept_alive(run):
        for listing in listings:
            sync_listing(run, listing, guard, progress, stopping=stopping or Event())
    return run


@contextmanager
def _recorded(run: SyncRun) -> Iterator[None]:
    """Put on record how the run ends; what can be better later leaves it to be resumed."""
    resumable = (SyncInterrupted, KeyboardInterrupt, *records.TRANSIENT)
    try:
        with records.failures_on_record(run, spared=(SyncLost, *resumable)):
            yield
    except resumable as error:
        records.finish(run, SyncRun.State.INTERRUPTED, str(error) or "Ctrl-C")
        raise
    records.finish(run, SyncRun.State.COMPLETED)
