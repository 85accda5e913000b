"""Show the progress of a run of workers in a terminal."""

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError

from clerk_integration.management.progress import CommandProgress
from tenants.management.interrupts import stop_on_signals
from tenants.models import SyncRun
from tenants.runs.progress import Reading, read_progress

POLL_SECONDS = 1.0


def follow(
    run_id: int,
    progress: CommandProgress,
    *,
    summarize: Callable[[SyncRun], dict[str, Any]],
    kind: SyncRun.Kind | None = None,
) -> None:
    """Show the progress of a run until the run ends or until Ctrl-C, which does not stop the run.

    Write nothing. Raise CommandError if there is no such run of this kind, or if the run ended without
    completing.
    """
    run = SyncRun.objects.filter(pk=run_id, kind__in=[kind] if kind else SyncRun.Kind).first()
    if run is None:
        raise CommandError(f"There is no {kind.label.lower() if kind else 'run'} {run_id}.")
    shown = Reading("", 0, 0)
    with stop_on_signals() as stopping:
        while True:
            shown = _show(read_progress(run), shown, progress)
            if run.state != SyncRun.State.RUNNING or stopping.wait(POLL_SECONDS):
                break
            run.refresh_from_db()
    if run.state == SyncRun.State.RUNNING:
        progress.note(f"The workers continue run {run.pk}. Show its progress again with --follow {run.pk}.")
    progress.finish(summarize(run))
    if run.state not in (SyncRun.State.RUNNING, SyncRun.State.COMPLETED):
        raise CommandError(run.error.strip() or f"Run {run.pk} ended as {run.get_state_display()}.")


def _show(now: Reading, shown: Reading, progress: CommandProgress) -> Reading:
    if now.label != shown.label:
        progress.start(now.total, now.label, done=now.done)
        shown = now
    progress.expect(now.total)
    progress.advance(now.done - shown.done)
    return now
