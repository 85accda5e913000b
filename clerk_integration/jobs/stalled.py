"""Give the jobs of dead or frozen workers to other workers.

A frozen worker that resumes later changes nothing, because its job is already closed.
"""

import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from procrastinate import sql
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Status as JobStatus

from clerk_integration.conf import stalled_worker_seconds
from clerk_integration.jobs.queue import queue
from clerk_integration.jobs.timeouts import set_timeouts_and_lock

logger = logging.getLogger(__name__)

CRASH_LIMIT = 3
"""Workers that one job may crash before the job is set to failed."""

BATCH = 500
"""Jobs that one rescue handles; the next rescue runs 10 seconds later."""


def rescue_stalled_jobs() -> int:
    """Put the jobs of dead and frozen workers back into their queues, in one transaction; return how many.

    Each job is tried CRASH_LIMIT times, in addition to the retries of its task. Handles at most BATCH jobs,
    and none while another rescue is running. Skips a job that its worker has locked.
    """
    timeout = timedelta(seconds=stalled_worker_seconds())
    dead = Q(worker=None) | Q(worker__last_heartbeat__lt=Now() - timeout)
    with transaction.atomic():
        if not set_timeouts_and_lock("rescue_stalled_jobs"):
            return 0
        _correct_heartbeats()
        running = ProcrastinateJob.objects.select_for_update(skip_locked=True, of=("self",))
        found = running.filter(dead, status="doing").annotate(now=Now()).order_by("pk")
        stalled = list(found[:BATCH])
        for job in stalled:
            _repeat(job)
    if stalled:
        logger.warning("Took jobs from workers that died", extra={"jobs": [job.pk for job in stalled]})
    return len(stalled)


def _correct_heartbeats() -> None:
    """Set heartbeats that lie in the future to now: the database's clock was set back.

    Otherwise a worker that died before that would count as alive until the clock has caught up. A worker that
    lives sends the next heartbeat in time.
    """
    ProcrastinateWorker.objects.filter(last_heartbeat__gt=Now()).update(last_heartbeat=Now())


def _repeat(job: Any) -> None:
    task = app.tasks.get(job.task_name)
    # `attempts` also counts the retries of a failed task. These retries are not crashes.
    retries = getattr(task and task.retry_strategy, "max_attempts", None) or 0
    if job.attempts + 1 >= CRASH_LIMIT + retries:
        _close(job, JobStatus.FAILED)
        return
    try:
        with transaction.atomic():
            queue.retry_job_by_id(job.pk, retry_at=job.now)
    except UniqueViolation:
        # Another job with the same queueing lock is already waiting.
        _close(job, JobStatus.ABORTED)


def _close(job: ProcrastinateJob, status: JobStatus) -> None:
    queue.connector.execute_query(
        sql.queries["finish_job"], job_id=job.pk, status=status.value, delete_job=False
    )
