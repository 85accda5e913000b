"""The queue, reached over Django's own connection: a job is added in the caller's transaction, or not at all.

Procrastinate's `app` does so in a web process only; in a worker it has connections of its own, and what
is deferred through it stays when the task's transaction is rolled back.
"""

from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

WEBHOOKS = "webhooks"
"""The queue of deliveries, and of what brings them back: no worker takes the ones without the other."""

MAINTENANCE = "maintenance"
"""The queue of what may wait."""

PROCESS_DELIVERY = "clerk_integration.tasks.process_webhook_delivery"

queue = JobManager(DjangoConnector())


def enqueue_delivery(delivery_id: int, *, failures: int = 0, lock: str | None = None) -> None:
    """Add the job that processes a delivery; it starts as soon as the caller's transaction is committed.

    `failures` is how often processing has failed before, which counts towards the limit of tries. Jobs
    of the same `lock` run one after the other. Raises procrastinate's ConnectorException when the
    database refuses.
    """
    job = Job(
        task_name=PROCESS_DELIVERY,
        queue=WEBHOOKS,
        task_kwargs={"delivery_id": delivery_id, "failures": failures},
        lock=lock,
        queueing_lock=None,
    )
    queue.defer_job(job)
