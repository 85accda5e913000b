"""Batches of staff that workers carry out, with the queue in the process of the tests."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.jobs.queue import queue
from tenants import tasks
from tenants.batches import jobs
from tenants.models import SyncRun, Tenant


@pytest.fixture
def boss(db: None) -> User:
    """A superuser, who may carry out every step."""
    return User.objects.create_superuser("boss")


@pytest.fixture
def many(db: None) -> Callable[..., list[Tenant]]:
    """Return a function that makes legacy tenants."""

    def make(number: int, **columns: Any) -> list[Tenant]:
        rows = [Tenant(name=f"Tenant {index}", **columns) for index in range(number)]
        return Tenant.objects.bulk_create(rows)

    return make


def waiting_jobs() -> list[ProcrastinateJob]:
    """Return the jobs of batches that no worker has begun."""
    return list(ProcrastinateJob.objects.filter(task_name=jobs.BATCH_SLICE, status="todo").order_by("pk"))


def work(*, limit: int | None = None) -> None:
    """Do the waiting jobs of batches as a worker does, `limit` of them if given. An error ends its job."""
    for job in waiting_jobs()[:limit]:
        tasks.batch_slice(**job.args)
        queue.cancel_job_by_id(job.pk, delete_job=True)


def counts(run: SyncRun) -> tuple[int, int, int]:
    """Return how many tenants of the run are done, not applicable and failed."""
    run.refresh_from_db()
    return run.updated, run.unchanged, run.failed


def outcomes(run: SyncRun) -> dict[int, str]:
    """Return the result of each tenant that was tried."""
    return {int(key): value["result"] for piece in run.slices.all() for key, value in piece.outcomes.items()}
