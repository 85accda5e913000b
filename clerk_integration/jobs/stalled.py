"""Give the jobs of dead or frozen workers to other workers.

A frozen worker that resumes later changes nothing, because its job is already closed.
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
"""Workers that one job may crash before the job is set to failed."""

BATCH = 500
"""Jobs that one rescue handles; the next rescue runs 10 seconds later."""

Replace = Callable[[ProcrastinateJob, str], bool]
"""Closes a stalled job and adds another with the given lock; returns False to leave it for later."""


def rescue_stalled_jobs(replace: Mapping[str, Replace]) -> int:
    """Give the jobs of dead and frozen workers to other workers, in one transaction; return how many.

    A worker counts as dead if its last heartbeat is older than `stalled_worker_timeout`. `replace` maps task
    names to functions that handle the jobs of these tasks. All other jobs go back into their queue. Each of
    them is tried CRASH_LIMIT times, in addition to the retries of its task. Handles at most BATCH jobs, and
    none while another rescue is running. Skips a job that its worker has locked.
    """
    # It is unknown which job crashed the worker. All jobs of one rescue share a lock and run one at a time,
    # so that harmless jobs do not crash a second time together with the faulty job.
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
    """Return an SQL expression: a worker counts as dead if its last heartbeat is before this time."""
    timeout = settings.PROCRASTINATE_WORKER_DEFAULTS["stalled_worker_timeout"]
    return Now() - timedelta(seconds=timeout)


def lock_running_jobs(condition: Q) -> list[ProcrastinateJob]:
    """Lock up to BATCH running jobs that meet the condition, until the transaction ends; return them."""
    jobs = ProcrastinateJob.objects.select_for_update(skip_locked=True, of=("self",))
    return list(jobs.filter(condition, status="doing").order_by("pk")[:BATCH])


def close_job(job: ProcrastinateJob, status: JobStatus) -> None:
    """End a job as its worker would have ended it: delete a successful job, set the status of any other."""
    queue.connector.execute_query(
        sql.queries["finish_job"],
        job_id=job.pk,
        status=status.value,
        delete_job=status is JobStatus.SUCCEEDED,
    )


def _repeat(job: ProcrastinateJob) -> bool:
    task = app.tasks.get(job.task_name)
    # `attempts` also counts the retries of a failed task. These retries are not crashes.
    retries = getattr(task and task.retry_strategy, "max_attempts", None) or 0
    if job.attempts + 1 >= CRASH_LIMIT + retries:
        close_job(job, JobStatus.FAILED)
        return True
    try:
        with transaction.atomic():
            queue.retry_job_by_id(job.pk, retry_at=timezone.now())
    except UniqueViolation:
        # Another job with the same queueing lock is already waiting.
        close_job(job, JobStatus.ABORTED)
    return True
