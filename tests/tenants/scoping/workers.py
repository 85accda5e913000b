"""Workers of Procrastinate and Celery, in threads of this process that know no tenant."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from celery.contrib.testing.worker import start_worker
from django.db import connections
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from tests.example_app.tasks import celery_app


def work_off_queue() -> list[Exception | None]:
    """Run the waiting jobs of the example app as a worker does; return the exception of each, or None."""
    jobs = ProcrastinateJob.objects.filter(status="todo", task_name__startswith="invoicing.")
    with ThreadPoolExecutor(1) as thread:
        return [thread.submit(_run, job.task_name, job.args).result() for job in jobs.order_by("id")]


@contextmanager
def celery_worker() -> Iterator[None]:
    """Run a Celery worker for the block."""
    with start_worker(celery_app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield


def _run(task_name: str, arguments: dict[str, Any]) -> Exception | None:
    try:
        app.tasks[task_name](**arguments)
    except Exception as error:
        return error
    else:
        return None
    finally:
        connections.close_all()
