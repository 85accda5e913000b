"""Whether anybody does what a command leaves to the workers."""

from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now
from procrastinate.contrib.django.models import ProcrastinateWorker

from clerk_integration.management.progress import CommandProgress
from tenants.models import SyncRun


def tell_who_works(run: SyncRun, progress: CommandProgress) -> None:
    """Say that workers are at the run now, or that there are none, and how to watch it. Reads only."""
    if _any_worker_lives():
        progress.note(f"Workers do it now; watch it with --follow {run.pk}.")
    else:
        progress.note(
            "No worker is running: start `manage.py procrastinate worker`. Then watch it with"
            f" --follow {run.pk}."
        )


def _any_worker_lives() -> bool:
    """Whether a worker's heartbeat is fresh, by the measure by which others take over its jobs."""
    timeout = timedelta(seconds=settings.PROCRASTINATE_WORKER_DEFAULTS["stalled_worker_timeout"])
    return ProcrastinateWorker.objects.filter(last_heartbeat__gte=Now() - timeout).exists()
