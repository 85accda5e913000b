"""Jobs whose worker is gone, and deliveries whose job is gone, get a job again.

A worker that was only frozen may wake up after its jobs were rescued. That changes nothing: the job
that it knows is closed, and `process_delivery` leaves alone what is processed. Nor does a worker that is
frozen in the middle of a rescue keep later ones from its rows: its transaction is ended for it.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, TextField
from django.db.models.expressions import Combinable
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Now
from django.utils import timezone
from procrastinate import sql
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Status as JobStatus

from clerk_integration.jobs.queue import PROCESS_DELIVERY, enqueue_delivery, queue
from clerk_integration.jobs.waits import limit_waits
from clerk_integration.models import WebhookDelivery

logger = logging.getLogger(__name__)

Status = WebhookDelivery.Status

CRASH_LIMIT = 3
"""Workers that one job may take down."""

FORGOTTEN_AFTER = timedelta(minutes=5)
"""A delivery takes milliseconds: what is that old has ended, and its worker could not record it."""

LOST_AFTER = timedelta(minutes=1)
LOST_AT_ONCE = 500
"""Lost deliveries brought back by one look; the next one is a minute later."""

CRASHED = (
    "Processing took its worker down {crashes} times, so it is not tried again by itself. The message is "
    "kept. Look for the cause in the logs of the workers and of the machine (memory?); when it is gone, "
    "replay this delivery."
)


def rescue_stalled_jobs() -> int:
    """Give the jobs of dead and frozen workers to the others; return how many were taken from them.

    A worker is given up when its heartbeat is older than `stalled_worker_timeout`. A delivery's job is
    closed and a new one takes its place; at the third crash both are failed, and the delivery says so.
    One whose arguments name no delivery is failed, and logged. Other jobs are tried three times in all,
    beside the retries of their own task. What another rescue is at, or somebody still processes, is left
    alone. One transaction.
    """
    # Which of a worker's jobs took it down is unknown, and the others must not fall with it again and
    # again: of the jobs that are rescued together only one runs at a time.
    lock = f"rescue {uuid4()}"
    with transaction.atomic():
        limit_waits()
        rescued = [
            job.pk
            for job in _running(Q(worker=None) | Q(worker__last_heartbeat__lt=_oldest_heartbeat()))
            if (_replace(job, crashes=1, lock=lock) if job.task_name == PROCESS_DELIVERY else _repeat(job))
        ]
    if rescued:
        logger.warning("Took jobs from workers that are gone", extra={"jobs": rescued})
    return len(rescued)


def rescue_forgotten_deliveries() -> int:
    """Replace the jobs whose end a living worker could not record; return how many. One transaction.

    That worker lives, so no crash is counted.
    """
    started = ProcrastinateEvent.objects.filter(
        job=OuterRef("pk"), type="started", at__gt=Now() - FORGOTTEN_AFTER
    )
    with transaction.atomic():
        limit_waits()
        living = Q(worker__last_heartbeat__gte=_oldest_heartbeat())
        jobs = _running(living & ~Exists(started) & Q(task_name=PROCESS_DELIVERY))
        return sum(_replace(job, crashes=0) for job in jobs)


def enqueue_lost_deliveries() -> int:
    """Enqueue deliveries that have waited for a minute and have no job; return how many, at most 500.

    One transaction.
    """
    # Compared as text: the argument of some odd job may be no number.
    jobs = (
        ProcrastinateJob.objects.filter(task_name=PROCESS_DELIVERY, status__in=["todo", "doing"])
        .annotate(delivery_id=KT("args__delivery_id"))
        .filter(delivery_id=Cast(OuterRef("pk"), TextField()))
    )
    with transaction.atomic():
        limit_waits()
        lost = WebhookDelivery.objects.select_for_update(skip_locked=True).filter(
            ~Exists(jobs), status=Status.RECEIVED, received_at__lt=Now() - LOST_AFTER
        )
        ids = [delivery.pk for delivery in lost.only("pk").order_by("pk")[:LOST_AT_ONCE]]
        for delivery_id in ids:
            enqueue_delivery(delivery_id)
    if ids:
        logger.warning("Enqueued deliveries that had no job", extra={"deliveries": ids})
    return len(ids)


def _oldest_heartbeat() -> Combinable:
    timeout = settings.PROCRASTINATE_WORKER_DEFAULTS["stalled_worker_timeout"]
    return Now() - timedelta(seconds=timeout)


def _running(condition: Q) -> Iterable[ProcrastinateJob]:
    """Return the jobs that are in a worker's hands and meet the condition, locked by us."""
    rows = ProcrastinateJob.objects.select_for_update(skip_locked=True, of=("self",))
    return list(rows.filter(condition, status="doing").order_by("pk"))


def _replace(job: ProcrastinateJob, *, crashes: int, lock: str | None = None) -> bool:
    """Close a delivery's job and enqueue another, unless all is done or too many workers have crashed."""
    if not _is_readable(job.args):
        logger.error("Failed a job that names no delivery", extra={"job": job.pk})
        _close(job, JobStatus.FAILED)
        return True
    deliveries = WebhookDelivery.objects.filter(pk=job.args["delivery_id"])
    delivery = deliveries.select_for_update(skip_locked=True).first()
    if delivery is None and deliveries.exists():
        return False  # somebody processes it at this moment
    if delivery is None or delivery.status in (Status.PROCESSED, Status.IGNORED):
        _close(job, JobStatus.SUCCEEDED)
        return True
    delivery.crashes += crashes
    if delivery.crashes >= CRASH_LIMIT:
        delivery.status = Status.FAILED
        delivery.error = CRASHED.format(crashes=delivery.crashes)
        _close(job, JobStatus.FAILED)
    else:
        _close(job, JobStatus.ABORTED)
        enqueue_delivery(delivery.pk, failures=job.args.get("failures", 0) + job.attempts, lock=lock)
    delivery.save(update_fields=["crashes", "status", "error"])
    return True


def _is_readable(args: Any) -> bool:
    """Whether these are a delivery's arguments; one job that was made by hand must not stop a rescue."""
    numbers = (args.get("delivery_id"), args.get("failures", 0)) if isinstance(args, dict) else (None,)
    return all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)


def _repeat(job: ProcrastinateJob) -> bool:
    """Put a job back into its queue, unless it is there already or has been tried too often."""
    if job.attempts + 1 >= CRASH_LIMIT + _retries(job.task_name):
        _close(job, JobStatus.FAILED)
        return True
    try:
        with transaction.atomic():
            queue.retry_job_by_id(job.pk, retry_at=timezone.now())
    except UniqueViolation:
        # Its queueing lock: the same work waits already.
        _close(job, JobStatus.ABORTED)
    return True


def _retries(task_name: str) -> int:
    """How often the task is tried again when it fails; those tries do not tell of crashes."""
    task = app.tasks.get(task_name)
    return getattr(task and task.retry_strategy, "max_attempts", None) or 0


def _close(job: ProcrastinateJob, status: JobStatus) -> None:
    queue.connector.execute_query(
        sql.queries["finish_job"],
        job_id=job.pk,
        status=status.value,
        delete_job=status is JobStatus.SUCCEEDED,
    )
