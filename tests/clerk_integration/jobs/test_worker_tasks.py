"""When deliveries are tried again, and what runs at night."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.jobs import Job

from clerk_integration.signals import nightly
from clerk_integration.tasks import remove_finished_jobs, send_nightly
from clerk_integration.webhooks.delivery_jobs import PROCESS_DELIVERY, WEBHOOKS, DeliveryRetryStrategy
from tests.workers import deliver, jobs, wait_until, workers_on

MODULE = "clerk_integration.tasks."


def job(*, attempts: int, failures: int = 0, lock: str | None = None) -> Job:
    return Job(
        id=7,
        queue=WEBHOOKS,
        task_name=PROCESS_DELIVERY,
        task_kwargs={"delivery_id": 1, "failures": failures},
        lock=lock,
        queueing_lock=None,
        attempts=attempts,
    )


def wait_after(tried: Job) -> float | None:
    """Return the seconds that a job waits after one more failure; None when it is given up."""
    decision = DeliveryRetryStrategy().get_retry_decision(exception=RuntimeError(), job=tried)
    if decision is None:
        return None
    assert decision.retry_at is not None
    return round((decision.retry_at - timezone.now()).total_seconds())


def test_delivery_is_tried_eight_times_with_growing_waits() -> None:
    waits = [wait_after(job(attempts=attempts)) for attempts in range(8)]

    assert waits == [5, 30, 120, 600, 3600, 3 * 3600, 10 * 3600, None]


def test_failures_before_a_crash_count_as_tries() -> None:
    assert wait_after(job(attempts=1, failures=2)) == 600
    assert wait_after(job(attempts=0, failures=7)) is None


def test_waiting_job_leaves_the_lock_that_it_shares() -> None:
    decisions = [
        DeliveryRetryStrategy().get_retry_decision(exception=RuntimeError(), job=job(attempts=0, lock=lock))
        for lock in ("rescue", None)
    ]

    assert [decision and decision.lock for decision in decisions] == ["job 7", None]


def test_periodic_tasks_are_scheduled() -> None:
    schedule = {name: periodic.cron for (name, _), periodic in app.periodic_registry.periodic_tasks.items()}

    ours = {name.removeprefix(MODULE): cron for name, cron in schedule.items() if name.startswith(MODULE)}
    assert ours == {
        "rescue_stalled_jobs": "* * * * * */10",
        "rescue_deliveries": "* * * * *",
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

        wait_until(lambda: [job.pk for job in jobs()] == [ended_lately, waiting])


def enqueued() -> int:
    return jobs(deliver())[0].pk


def query(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
