"""Report whether workers do the jobs that a command has put on the queue."""

from datetime import timedelta

from django.db.models.functions import Now
from procrastinate.contrib.django.models import ProcrastinateWorker

from clerk_integration.conf import stalled_worker_seconds
from clerk_integration.management.progress import CommandProgress
from tenants.models import SyncRun


def tell_who_works(run: SyncRun, progress: CommandProgress) -> None:
    """Print whether a worker is running, and how to show the progress of the run."""
    if _any_worker_lives():
        progress.note(f"Run {run.pk} is queued for the workers. Show its progress with --follow {run.pk}.")
    else:
        progress.note(
            f"Run {run.pk} is queued, and no worker is running. Start `manage.py procrastinate worker`, then"
            f" show its progress with --follow {run.pk}."
        )


def _any_worker_lives() -> bool:
    """Return whether a worker sent a heartbeat within `stalled_worker_timeout`."""
    timeout = timedelta(seconds=stalled_worker_seconds())
    return ProcrastinateWorker.objects.filter(last_heartbeat__gte=Now() - timeout).exists()
