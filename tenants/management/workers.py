"""Report whether workers do the jobs that a command has put on the queue."""

from clerk_integration.management.progress import CommandProgress
from tenants.models import SyncRun
from tenants.monitoring.numbers import live_workers


def tell_who_works(run: SyncRun, progress: CommandProgress) -> None:
    """Print whether a worker is running, and how to show the progress of the run."""
    if live_workers():
        progress.note(f"Run {run.pk} is queued for the workers. Show its progress with --follow {run.pk}.")
    else:
        progress.note(
            f"Run {run.pk} is queued, and no worker is running. Start `manage.py procrastinate worker`, then"
            f" show its progress with --follow {run.pk}."
        )
