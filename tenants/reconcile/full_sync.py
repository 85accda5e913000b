"""The full sync: everything that Clerk has, mirrored; what it no longer has, retired.

First the organizations, by Clerk's listing, then the memberships of the whole instance by theirs: one
call and three statements for each 500, whatever their number. Each page is committed with its record,
so that a run that was stopped, or died, is resumed where it was.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event

from clerk_integration.exceptions import ClerkError, ClerkUnavailable
from tenants import runs, transitions
from tenants.attempts import UNRESOLVED_SECONDS
from tenants.exceptions import SyncAlreadyRunning, SyncError, SyncInterrupted, SyncLost
from tenants.models import SyncRun
from tenants.reconcile import absence
from tenants.reconcile.instances import right_instance
from tenants.reconcile.listings import MEMBERSHIPS, ORGANIZATIONS, PageWriter
from tenants.reconcile.progress import NoProgress, Progress

logger = logging.getLogger(__name__)

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
    with runs.sole_full_sync():
        run, resumed = runs.begin_or_resume(instance_id=instance_id, skip_memberships=skip_memberships)
        if resumed:
            progress.note(f"Resuming full sync {run.pk}, which began {run.started_at:%Y-%m-%d %H:%M:%S} UTC.")
        guard = absence.Guard(run, max_percent=max_retire_percent)
        with _recorded(run):
            _sync_organizations(run, guard, progress, stopping or Event())
            if not skip_memberships:
                _sync_memberships(run, guard, progress, stopping or Event())
    return run


def nightly_full_sync() -> SyncRun | None:
    """Run a full sync for the nightly job; None when somebody else is running one, which is as good.

    Raise SyncError and ClerkError as `run_full_sync` does.
    """
    try:
        return run_full_sync()
    except SyncAlreadyRunning as error:
        logger.info("nightly full sync left out: %s", error)
        return None


def _sync_organizations(run: SyncRun, guard: absence.Guard, progress: Progress, stopping: Event) -> None:
    pages = PageWriter(run, ORGANIZATIONS, progress, stopping, before_first=guard.refuse_short_listing)
    pages.read()
    if pages.nothing_hidden():
        searched_since = run.started_at - timedelta(seconds=UNRESOLVED_SECONDS)
        transitions.fail_creations(sent_before=searched_since)
        absence.retire_organizations(run, guard, progress)


def _sync_memberships(run: SyncRun, guard: absence.Guard, progress: Progress, stopping: Event) -> None:
    pages = PageWriter(run, MEMBERSHIPS, progress, stopping)
    pages.read()
    if pages.nothing_hidden():
        absence.end_memberships(run, guard, progress)


@contextmanager
def _recorded(run: SyncRun) -> Iterator[None]:
    """Put on record how the run ends; what can be better later leaves it to be resumed."""
    try:
        yield
    except SyncLost:
        raise  # The record is another's now.
    except (SyncInterrupted, ClerkUnavailable, KeyboardInterrupt) as error:
        runs.finish(run, SyncRun.State.INTERRUPTED, str(error) or "Ctrl-C")
        raise
    except (SyncError, ClerkError) as error:
        runs.finish(run, SyncRun.State.FAILED, str(error))
        raise
    except BaseException as error:
        runs.finish(run, SyncRun.State.FAILED, f"{type(error).__name__}: {error}")
        raise
    runs.finish(run, SyncRun.State.COMPLETED)
