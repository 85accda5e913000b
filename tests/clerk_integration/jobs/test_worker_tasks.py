"""What runs periodically, and what runs at night."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.signals import nightly
from clerk_integration.tasks import drain_webhooks, remove_finished_jobs, send_nightly
from clerk_integration.webhooks.wake_ups import DRAIN
from tests.workers import wait_until, workers_on

MODULE = "clerk_integration.tasks."


def test_periodic_tasks_are_scheduled() -> None:
    schedule = {name: periodic.cron for (name, _), periodic in app.periodic_registry.periodic_tasks.items()}

    ours = {name.removeprefix(MODULE): cron for name, cron in schedule.items() if name.startswith(MODULE)}
    assert ours == {
        "recover_webhooks": "* * * * * */5",
        "rescue_stalled_jobs": "* * * * * */10",
        "check_clerk": "* * * * *",
        "send_nightly": "0 3 * * *",
        "purge_deliveries": "0 4 * * *",
        "remove_finished_jobs": "0 4 * * *",
    }


@contextmanager
def listening(*receivers: Any) -> Iterator[None]:
    for receiver in receivers:
        nightly.connect(receiver, weak=False)
    try:
        yield
    finally:
        for receiver in receivers:
            nightly.disconnect(receiver)


def test_nightly_calls_every_receiver_and_then_reports_the_failed() -> None:
    called = []

    def failing(**_: Any) -> None:
        raise RuntimeError("no")

    def working(**_: Any) -> None:
        called.append("working")

    with listening(failing, working), pytest.raises(ExceptionGroup) as failure:
        send_nightly(0)

    assert called == ["working"]
    assert failure.group_contains(RuntimeError, match="no")


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
def test_jobs_that_ended_a_month_ago_are_removed_and_others_are_kept(tmp_path: Path) -> None:
    with workers_on(tmp_path) as workers:
        ended, ended_lately, waiting = (enqueued() for _ in range(3))
        for job_id in (ended, ended_lately):
            query("SELECT procrastinate_finish_job_v1(%s, 'failed', false)", job_id)
        query("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 day' WHERE id = %s", waiting)
        query("UPDATE procrastinate_events SET at = at - interval '31 days' WHERE job_id <> %s", ended_lately)

        remove_finished_jobs.configure().defer(timestamp=0)
        workers.start()

        wait_until(lambda: job_ids() == [ended_lately, waiting])


def enqueued() -> int:
    return int(drain_webhooks.configure().defer(timestamp=0))


def job_ids() -> list[int]:
    jobs = ProcrastinateJob.objects.filter(task_name=DRAIN).order_by("pk")
    return list(jobs.values_list("pk", flat=True))


def query(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
