"""Jobs whose worker died or froze: they are given to other workers.

A frozen worker that wakes up later changes nothing: its job is closed by then.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.expressions import Combinable
from django.db.models.functions import Now
from django.utils import timezone
from procrastinate import sql
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Status as JobStatus

from clerk_integration.jobs.queue import queue
from clerk_integration.jobs.timeouts import set_timeouts_and_lock

logger = logging.getLogger(__name__)

CRASH_LIMIT = 3
"""Workers that one job may crash before it is given up."""

BATCH = 500
"""Jobs that one rescue handles; the next one is 10 seconds later."""

Replace = Callable[[ProcrastinateJob, str], bool]
"""Closes a stalled job and adds another with the given lock; returns False to leave it for later."""


def rescue_stalled_jobs(replace: Mapping[str, Replace]) -> int:
    """Give the jobs of dead and frozen workers to the others, in one transaction; return how many.

    A worker counts as dead when its heartbeat is older than `stalled_worker_timeout`. `replace` maps the
    names of tasks to a function that handles their jobs. The jobs of other tasks go back into their queue;
    each is tried CRASH_LIMIT times, beside the retries of its own task. At most BATCH jobs; none while
    another rescue is running. A job that its worker has locked is skipped.
    """
    # Nothing says which of a worker's jobs crashed it. The jobs of one rescue share a lock, so that they
    # run one at a time and the harmless ones do not crash again together with the culprit.
    lock = f"rescue {uuid4()}"
    with transaction.atomic():
        if not set_timeouts_and_lock("rescue_stalled_jobs"):
            return 0
        rescued = [
            job.pk
            for job in lock_running_jobs(Q(worker=None) | Q(worker__last_heartbeat__lt=oldest_heartbeat()))
            if (replace[job.task_name](job, lock) if job.task_name in replace else _repeat(job))
        ]
    if rescued:
        logger.warning("Took jobs from workers that died", extra={"jobs": rescued})
    return len(rescued)


def oldest_heartbeat() -> Combinable:
    """Return the time of the last heartbeat, as an expression, before which a worker counts as dead."""
    timeout = settings.PROCRASTINATE_WORKER_DEFAULTS["stalled_worker_timeout"]
    return Now() - timedelta(seconds=timeout)


def lock_running_jobs(condition: Q) -> list[ProcrastinateJob]:
    """Return up to BATCH running jobs that meet the condition, locked until the end of the transaction."""
    jobs = ProcrastinateJob.objects.select_for_update(skip_locked=True, of=("self",))
    return list(jobs.filter(condition, status="doing").order_by("pk")[:BATCH])


def close_job(job: ProcrastinateJob, status: JobStatus) -> None:
    """End a job, as its worker would have done; a job that succeeded is deleted."""
    queue.connector.execute_query(
        sql.queries["finish_job"],
        job_id=job.pk,
        status=status.value,
        delete_job=status is JobStatus.SUCCEEDED,
    )


def _repeat(job: ProcrastinateJob) -> bool:
    task = app.tasks.get(job.task_name)
    # Tries after a failure of the task say nothing about crashes.
    retries = getattr(task and task.retry_strategy, "max_attempts", None) or 0
    if job.attempts + 1 >= CRASH_LIMIT + retries:
        close_job(job, JobStatus.FAILED)
        return True
    try:
        with transaction.atomic():
            queue.retry_job_by_id(job.pk, retry_at=timezone.now())
    except UniqueViolation:
        # A job with the same queueing lock is waiting already.
        close_job(job, JobStatus.ABORTED)
    return True
