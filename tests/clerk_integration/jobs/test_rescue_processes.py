"""Workers that are killed or frozen in the middle; here they are given up after two silent seconds."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued

from clerk_integration.models import WebhookDelivery
from clerk_integration.tasks import rescue_stalled_jobs
from tests.workers import (
    Gate,
    Worker,
    Workers,
    applied,
    appliers,
    deliver,
    jobs,
    status,
    wait_until,
    workers_on,
)

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

Status = WebhookDelivery.Status


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with workers_on(tmp_path) as started:
        yield started


def test_worker_killed_in_the_middle_loses_nothing(workers: Workers) -> None:
    with Gate() as gate:
        killed = workers.start()
        deliveries = [deliver("test.hold", lock=gate.lock) for _ in range(4)]
        wait_until(lambda: gate.waiting() == 4)

        killed.kill()
        gate.open()

        survivor = workers.start()
        wait_until(lambda: len(applied()) == 4)

    wait_until(lambda: [job.status for job in jobs()] == ["aborted"] * 4)
    assert sorted(applied()) == sorted(delivery.payload["data"]["name"] for delivery in deliveries)
    assert set(appliers()) == {survivor.pid}
    for delivery in deliveries:
        assert (status(delivery), delivery.attempts, delivery.crashes) == (Status.PROCESSED, 2, 1)


def test_worker_frozen_in_the_middle_changes_nothing_when_it_wakes(workers: Workers) -> None:
    with Gate() as gate:
        frozen = workers.start()
        delivery = deliver("test.hold", lock=gate.lock)
        wait_until(lambda: gate.waiting() == 1)
        frozen.freeze()
        gate.open()

        survivor = workers.start()
        wait_until(lambda: status(delivery) == Status.PROCESSED)
        processed_at = delivery.processed_at

        frozen.thaw()
        wait_until(lambda: "ended with status" in frozen.log)

    assert appliers() == [survivor.pid]
    delivery.refresh_from_db()
    assert (delivery.status, delivery.processed_at, delivery.crashes) == (Status.PROCESSED, processed_at, 1)
    assert [job.status for job in jobs()] == ["aborted"]
    later = deliver()
    wait_until(lambda: status(later) == Status.PROCESSED)


def test_delivery_that_crashes_every_worker_is_failed_and_takes_no_other_with_it(workers: Workers) -> None:
    # The first four are in the same worker when it falls.
    poisonous = deliver("test.crash", seconds=0.5)
    others = [deliver(seconds=seconds) for seconds in (2, 2, 2, 0, 0, 0)]

    while status(poisonous) != Status.FAILED:
        worker = workers.start()
        wait_until(partial(ended_or_rescued, worker, poisonous))

    wait_until(lambda: [status(delivery) for delivery in others] == [Status.PROCESSED] * len(others))
    assert poisonous.crashes == 3
    assert "crashed its worker 3 times" in poisonous.error
    assert [job.status for job in jobs(poisonous)] == ["aborted", "aborted", "failed"]
    assert all(delivery.crashes > 0 for delivery in others[:3])
    assert len(applied()) == len(others)


def ended_or_rescued(worker: Worker, delivery: WebhookDelivery) -> bool:
    """Ask for a rescue, rather than waiting for its next time."""
    with suppress(AlreadyEnqueued):
        rescue_stalled_jobs.configure().defer(timestamp=0)
    return worker.process.poll() is not None or status(delivery) == Status.FAILED


@pytest.mark.parametrize("stop", [Worker.kill, Worker.freeze])
def test_worker_stopped_in_the_middle_of_a_rescue_does_not_stop_the_next(
    workers: Workers, stop: Callable[[Worker], None]
) -> None:
    with Gate() as gate:
        first = workers.start()
        delivery = deliver("test.hold", lock=gate.lock)
        wait_until(lambda: gate.waiting() == 1)
        first.kill()

    with connection.cursor() as cursor:
        # A rescue that finds something to do waits behind this lock.
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE webhook_deliveries IN EXCLUSIVE MODE")
        second = workers.start()
        wait_until(rescue_is_waiting)
        stop(second)
        cursor.execute("ROLLBACK")

    workers.start()
    wait_until(lambda: status(delivery) == Status.PROCESSED)
    wait_until(lambda: not ProcrastinateJob.objects.filter(status="doing").exists())


def rescue_is_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE relation = 'webhook_deliveries'::regclass AND NOT granted"
        )
        return bool(cursor.fetchone()[0])
