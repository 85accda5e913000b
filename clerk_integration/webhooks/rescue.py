"""Give a new job to deliveries whose job was lost or stalled."""

import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, TextField
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Now
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.jobs import Status as JobStatus

from clerk_integration.jobs.stalled import BATCH, CRASH_LIMIT, close_job, lock_running_jobs, oldest_heartbeat
from clerk_integration.jobs.timeouts import set_timeouts_and_lock
from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.delivery_jobs import PROCESS_DELIVERY, enqueue_delivery

logger = logging.getLogger(__name__)

Status = WebhookDelivery.Status

OVERDUE_AFTER = timedelta(minutes=5)
"""Processing takes milliseconds. A job older than this has ended, but its worker could not record the end."""

WITHOUT_JOB_AFTER = timedelta(minutes=1)
CRASHED = (
    "Processing this delivery crashed its worker {crashes} times, so it is not tried again by itself. The "
    "message is kept. Look for the cause in the logs of the workers and of the machine (memory?), then "
    "replay this delivery."
)


def replace_crashed_job(job: ProcrastinateJob, lock: str) -> bool:
    """Replace the job of a dead worker, count the crash, return True; False if the delivery is locked.

    At the third crash, the job and the delivery are set to failed instead, and the delivery's error names the
    crashes. A job whose arguments name no delivery is set to failed and logged.
    """
    return _replace(job, crashes=1, lock=lock)


def replace_overdue_jobs() -> int:
    """Replace jobs that have run for 5 minutes on a living worker; return how many. One transaction.

    No crash is counted, because the worker is alive.
    """
    started_lately = ProcrastinateEvent.objects.filter(
        job=OuterRef("pk"), type="started", at__gt=Now() - OVERDUE_AFTER
    )
    on_living_worker = Q(worker__last_heartbeat__gte=oldest_heartbeat())
    with transaction.atomic():
        if not set_timeouts_and_lock("replace_overdue_jobs"):
            return 0
        jobs = lock_running_jobs(on_living_worker & ~Exists(started_lately) & Q(task_name=PROCESS_DELIVERY))
        return sum(_replace(job, crashes=0) for job in jobs)


def enqueue_deliveries_without_job() -> int:
    """Enqueue up to 500 deliveries that have waited a minute and have no job; return how many.

    One transaction.
    """
    # Compared as text, because the argument of a manually added job may not be a number.
    jobs = (
        ProcrastinateJob.objects.filter(task_name=PROCESS_DELIVERY, status__in=["todo", "doing"])
        .annotate(delivery_id=KT("args__delivery_id"))
        .filter(delivery_id=Cast(OuterRef("pk"), TextField()))
    )
    with transaction.atomic():
        if not set_timeouts_and_lock("enqueue_deliveries_without_job"):
            return 0
        deliveries = WebhookDelivery.objects.select_for_update(skip_locked=True).filter(
            ~Exists(jobs), status=Status.RECEIVED, received_at__lt=Now() - WITHOUT_JOB_AFTER
        )
        ids = [delivery.pk for delivery in deliveries.only("pk").order_by("pk")[:BATCH]]
        for delivery_id in ids:
            enqueue_delivery(delivery_id)
    if ids:
        logger.warning("Enqueued deliveries that had no job", extra={"deliveries": ids})
    return len(ids)


def _replace(job: ProcrastinateJob, *, crashes: int, lock: str | None = None) -> bool:
    if not _are_delivery_arguments(job.args):
        logger.error("Failed a job that names no delivery", extra={"job": job.pk})
        close_job(job, JobStatus.FAILED)
        return True
    deliveries = WebhookDelivery.objects.filter(pk=job.args["delivery_id"])
    delivery = deliveries.select_for_update(skip_locked=True).first()
    if delivery is None and deliveries.exists():
        return False  # another process has locked the delivery
    if delivery is None or delivery.status in (Status.PROCESSED, Status.IGNORED):
        close_job(job, JobStatus.SUCCEEDED)
        return True
    delivery.crashes += crashes
    if delivery.crashes >= CRASH_LIMIT:
        delivery.status = Status.FAILED
        delivery.error = CRASHED.format(crashes=delivery.crashes)
        close_job(job, JobStatus.FAILED)
    else:
        close_job(job, JobStatus.ABORTED)
        enqueue_delivery(delivery.pk, failures=job.args.get("failures", 0) + job.attempts, lock=lock)
    delivery.save(update_fields=["crashes", "status", "error"])
    return True


def _are_delivery_arguments(args: Any) -> bool:
    """Return whether the arguments of a job name a delivery; a manually added job may name none."""
    numbers = (args.get("delivery_id"), args.get("failures", 0)) if isinstance(args, dict) else (None,)
    return all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
