"""Workers that are killed or frozen in the middle; here they are given up after two silent seconds."""

import time
from collections.abc import Callable

import pytest
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.wake_ups import DRAIN, PRIORITY
from tests.workers import (
    Gate,
    Worker,
    Workers,
    applied,
    appliers,
    deliver,
    delivery,
    status,
    wait_until,
    wake_up_statuses,
)

pytestmark = pytest.mark.django_db(transaction=True)

Status = WebhookDelivery.Status


def names(deliveries: list[WebhookDelivery]) -> list[str]:
    return sorted(stored.payload["data"]["name"] for stored in deliveries)


def all_are(wanted: str, deliveries: list[WebhookDelivery]) -> bool:
    found = WebhookDelivery.objects.filter(pk__in=[stored.pk for stored in deliveries], status=wanted)
    return found.count() == len(deliveries)


def keep_running(workers: Workers, count: int, *, until: Callable[[], bool]) -> None:
    """Have so many workers run, and start another for each that ends, until the condition holds."""
    deadline = time.monotonic() + 300
    running: list[Worker] = []
    while not until():
        assert time.monotonic() < deadline, "it did not happen"
        running = [worker for worker in running if worker.process.poll() is None]
        if len(running) < count:
            running.append(workers.start())
        time.sleep(0.05)


@pytest.mark.slow
def test_worker_killed_in_the_middle_of_four_deliveries_loses_nothing(workers: Workers) -> None:
    with Gate() as gate:
        killed = workers.start()
        deliveries = [deliver("test.hold", lock=gate.lock) for _ in range(4)]
        wait_until(lambda: gate.waiting() == 4)

        killed.kill()
        gate.open()

        survivor = workers.start()
        wait_until(lambda: len(applied()) == 4)

    wait_until(lambda: all_are(Status.PROCESSED, deliveries))
    assert sorted(applied()) == names(deliveries)
    assert set(appliers()) == {survivor.pid}
    assert counts(deliveries) == {(2, 1)}


def counts(deliveries: list[WebhookDelivery]) -> set[tuple[int, int]]:
    """The attempts and crashes of deliveries."""
    found = WebhookDelivery.objects.filter(pk__in=[stored.pk for stored in deliveries])
    return set(found.values_list("attempts", "crashes"))


@pytest.mark.slow
@pytest.mark.parametrize("ended", [Worker.kill, Worker.freeze])
def test_worker_ended_in_the_middle_of_a_batch_of_100_loses_nothing_and_repeats_nothing(
    workers: Workers, ended: Callable[[Worker], None]
) -> None:
    with Gate() as gate:
        batch = [delivery("test.many") for _ in range(99)]
        batch.append(deliver("test.many", act="hold", lock=gate.lock))
        later = [delivery("test.many") for _ in range(3)]
        first = workers.start()
        # Another thread of the worker processes the deliveries that are not in the batch.
        wait_until(lambda: gate.waiting() == 1 and all_are(Status.PROCESSED, later))
        ended(first)
        gate.open()

        workers.start()
        wait_until(lambda: all_are(Status.PROCESSED, batch))

    assert sorted(applied()) == names([*batch, *later])
    assert counts(batch) == {(2, 1)}
    assert counts(later) == {(1, 0)}


@pytest.mark.slow
def test_worker_frozen_in_the_middle_changes_nothing_when_it_wakes(workers: Workers) -> None:
    with Gate() as gate:
        frozen = workers.start()
        held = deliver("test.hold", lock=gate.lock)
        wait_until(lambda: gate.waiting() == 1)
        frozen.freeze()
        gate.open()

        survivor = workers.start()
        wait_until(lambda: status(held) == Status.PROCESSED)
        processed_at = held.processed_at

        frozen.thaw()
        wait_until(lambda: "After the end of an attempt" in frozen.log)

    assert appliers() == [survivor.pid]
    held.refresh_from_db()
    assert (held.status, held.processed_at, held.crashes) == (Status.PROCESSED, processed_at, 1)
    later = deliver()
    wait_until(lambda: status(later) == Status.PROCESSED)


@pytest.mark.slow
@pytest.mark.parametrize("event_type", ["test.crash", "test.many"])
def test_delivery_that_crashes_every_worker_is_failed_and_takes_no_other_with_it(
    workers: Workers, event_type: str
) -> None:
    others = [delivery("test.many") for _ in range(20)]
    poisonous = deliver(event_type, act="crash")
    others += [delivery("test.many") for _ in range(20)]

    keep_running(workers, 1, until=lambda: status(poisonous) == Status.FAILED)

    wait_until(lambda: all_are(Status.PROCESSED, others))
    assert (poisonous.crashes, poisonous.attempts, poisonous.due_at) == (3, 3, None)
    assert "crashed its worker 3 times" in poisonous.error
    assert sorted(applied()) == names(others)
    assert counts(others) <= {(1, 0), (2, 1)}


def test_failing_and_lasting_deliveries_hold_up_no_other(workers: Workers) -> None:
    with Gate() as gate:
        held = delivery("test.hold", lock=gate.lock)
        failing = [delivery("test.fail"), delivery("test.many", act="fail")]
        others = [delivery("test.many") for _ in range(150)] + [delivery() for _ in range(3)]
        deliver()
        workers.start()

        wait_until(lambda: all_are(Status.PROCESSED, others))

        assert status(held) == Status.RECEIVED
        assert all_are(Status.FAILED, failing)
        gate.open()
        wait_until(lambda: status(held) == Status.PROCESSED)
    assert held.attempts == 1


@pytest.mark.slow
def test_one_that_fails_one_that_crashes_and_one_that_lasts_a_minute_hold_up_none_of_5000(
    workers: Workers,
) -> None:
    lasting = delivery("test.sleep", database_seconds=60)
    failing = delivery("test.many", act="fail")
    crashing = delivery("test.many", act="crash")
    others = [delivery("test.many") for _ in range(5_000)]
    deliver()

    keep_running(workers, 2, until=lambda: all_are(Status.PROCESSED, others))

    assert status(lasting) == Status.RECEIVED
    assert status(failing) == Status.FAILED
    assert counts(others) <= {(1, 0), (2, 0), (2, 1), (3, 1)}
    ended = lambda: (status(crashing), status(lasting)) == (Status.FAILED, Status.PROCESSED)  # noqa: E731
    keep_running(workers, 2, until=ended)
    assert crashing.crashes == 3


@pytest.mark.slow
@pytest.mark.parametrize("stop", [Worker.kill, Worker.freeze])
def test_worker_stopped_in_the_middle_of_a_recovery_does_not_stop_the_next(
    workers: Workers, stop: Callable[[Worker], None]
) -> None:
    with Gate() as gate:
        first = workers.start()
        held = deliver("test.hold", lock=gate.lock)
        wait_until(lambda: gate.waiting() == 1)
        first.kill()

    with connection.cursor() as cursor:
        # A recovery that finds something to do waits behind this lock.
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE webhook_deliveries IN EXCLUSIVE MODE")
        second = workers.start()
        wait_until(recovery_is_waiting)
        stop(second)
        cursor.execute("ROLLBACK")

    workers.start()
    wait_until(lambda: status(held) == Status.PROCESSED)
    wait_until(lambda: not ProcrastinateJob.objects.filter(status="doing").exists())


def recovery_is_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE relation = 'webhook_deliveries'::regclass AND NOT granted"
        )
        return bool(cursor.fetchone()[0])


@pytest.mark.slow
def test_wake_up_that_a_living_worker_has_lost_holds_up_no_delivery(workers: Workers) -> None:
    """The reply to `fetch_job` may be lost: the job then stays "doing" while its worker lives."""
    worker = workers.start()
    deliver()
    wait_until(lambda: len(applied()) == 1)
    wait_until(lambda: wake_up_statuses() == [])
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, status, worker_id)"
            " VALUES ('webhooks', %s, %s, '{\"timestamp\": 0}', 'doing', %s)",
            [DRAIN, PRIORITY, worker.worker_id],
        )

    later = [deliver() for _ in range(3)]

    wait_until(lambda: all_are(Status.PROCESSED, later))
