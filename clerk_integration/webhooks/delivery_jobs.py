"""The jobs that process deliveries: how they are added, and when they are retried after a failure."""

from collections.abc import Sequence
from typing import cast

from django.db import connection
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision

from clerk_integration.jobs.queue import queue

WEBHOOKS = "webhooks"
"""The queue of deliveries and of rescues, so that each worker for deliveries also runs rescues."""

PROCESS_DELIVERY = "clerk_integration.tasks.process_webhook_delivery"

# What `enqueue_delivery` does, as a part of the statement that stores the delivery.
DEFER_DELIVERY = f"""procrastinate_defer_jobs_v1(ARRAY[ROW(
    '{WEBHOOKS}', '{PROCESS_DELIVERY}', 0, NULL, NULL,
    jsonb_build_object('delivery_id', id, 'failures', 0), NULL
)::procrastinate_job_to_defer_v1])"""

MINUTE = 60
HOUR = 60 * MINUTE

RETRY_DELAYS = (5, 30, 2 * MINUTE, 10 * MINUTE, HOUR, 3 * HOUR, 10 * HOUR)
"""Seconds before each further try: eight tries in 14 hours, then the delivery waits for an operator."""


class DeliveryRetryStrategy(BaseRetryStrategy):
    """Retry after each delay in RETRY_DELAYS; give up after the last.

    If a worker crashes, its job is replaced. The argument `failures` of the new job is the number of earlier
    failures. The crash itself does not count.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return the time of the next retry, or None to give up."""
        failures = job.attempts + cast("int", job.task_kwargs.get("failures", 0))
        if failures >= len(RETRY_DELAYS):
            return None
        # A waiting job blocks later jobs with the same lock. A lock of its own blocks no other job.
        lock = f"job {job.id}" if job.lock else None
        return RetryDecision(retry_in={"seconds": RETRY_DELAYS[failures]}, lock=lock)


def enqueue_delivery(delivery_id: int, *, failures: int = 0, lock: str | None = None) -> None:
    """Add the job that processes a delivery; the job starts after the caller's transaction is committed.

    `failures` counts towards the limit of retries. Jobs with the same `lock` run one after the other. Raises
    Procrastinate's ConnectorException for database errors.
    """
    job = Job(
        task_name=PROCESS_DELIVERY,
        queue=WEBHOOKS,
        task_kwargs={"delivery_id": delivery_id, "failures": failures},
        lock=lock,
        queueing_lock=None,
    )
    queue.defer_job(job)


_RUN_NOW = """
UPDATE procrastinate_jobs SET scheduled_at = NULL
WHERE status = 'todo' AND task_name = %s AND args->>'delivery_id' = ANY (%s)
RETURNING args->>'delivery_id'
"""


def run_waiting_jobs_now(delivery_ids: Sequence[int]) -> set[int]:
    """Start the jobs that wait for a retry; return the ids of the deliveries that have a waiting job."""
    with connection.cursor() as cursor:
        cursor.execute(_RUN_NOW, [PROCESS_DELIVERY, [str(delivery_id) for delivery_id in delivery_ids]])
        return {int(delivery_id) for (delivery_id,) in cursor.fetchall()}
