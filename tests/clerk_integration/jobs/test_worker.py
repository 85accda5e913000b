"""`manage.py procrastinate worker`: real processes on the test database."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models import F
from psycopg import sql

from clerk_integration.models import WebhookDelivery
from clerk_integration.tasks import process_webhook_delivery
from tests.workers import (
    Gate,
    Workers,
    applied,
    appliers,
    deliver,
    jobs,
    status,
    wait_until,
    workers_on,
)

pytestmark = pytest.mark.django_db(transaction=True)

Status = WebhookDelivery.Status


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with workers_on(tmp_path) as started:
        yield started


def test_worker_started_late_processes_what_has_gathered(workers: Workers) -> None:
    gathered = [deliver() for _ in range(20)]

    workers.start()
    wait_until(lambda: len(applied()) == len(gathered))

    wait_until(lambda: jobs() == [])
    assert [status(delivery) for delivery in gathered] == [Status.PROCESSED] * len(gathered)


def test_job_of_a_transaction_that_is_rolled_back_does_not_exist(workers: Workers) -> None:
    with transaction.atomic():
        deliver()
        transaction.set_rollback(True)

    assert jobs() == []


def test_failing_delivery_is_tried_again_later_and_holds_up_no_other(workers: Workers) -> None:
    poisonous = deliver("test.fail")
    others = [deliver() for _ in range(8)]

    workers.start()
    wait_until(lambda: {status(delivery) for delivery in others} == {Status.PROCESSED})
    wait_until(lambda: [job.status for job in jobs()] == ["todo"])

    assert status(poisonous) == Status.FAILED
    assert "this handler always fails" in poisonous.error
    (job,) = jobs(poisonous)
    assert (job.attempts, job.scheduled_at is not None) == (1, True)
    assert len(applied()) == len(others)


@pytest.mark.slow
def test_delivery_that_fails_in_other_hands_is_tried_again_by_its_worker(workers: Workers) -> None:
    with ThreadPoolExecutor(1) as other:
        delivery = deliver()
        with transaction.atomic():
            WebhookDelivery.objects.select_for_update().get()
            workers.start()
            wait_until(lambda: ungranted("transactionid"))
            # The table's lock is given to who has waited longest: first to the worker, to begin, then to the
            # other, before the worker gets any further.
            overtaken = other.submit(overtake_and_fail, delivery)
            wait_until(lambda: ungranted("relation"))
        overtaken.result()

    wait_until(lambda: [(job.status, job.attempts) for job in jobs()] == [("todo", 1)])
    assert (status(delivery), delivery.error) == (Status.FAILED, "of the other")
    wait_until(lambda: jobs() == [])
    assert (status(delivery), delivery.attempts) == (Status.PROCESSED, 3)
    assert len(applied()) == 1


def ungranted(kind: str) -> int:
    """How many locks of a kind are waited for in this database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = %s", [kind])
        return int(cursor.fetchone()[0])


def overtake_and_fail(delivery: WebhookDelivery) -> None:
    """Do what an attempt does that fails, and nobody in between."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE webhook_deliveries IN EXCLUSIVE MODE")
            WebhookDelivery.objects.filter(pk=delivery.pk).update(
                attempts=F("attempts") + 1, status=Status.FAILED, error="of the other"
            )
    finally:
        connection.close()


def test_two_workers_share_the_work_four_at_a_time(workers: Workers) -> None:
    with Gate() as gate:
        deliveries = [deliver("test.hold", lock=gate.lock) for _ in range(9)]
        first, second = workers.start(), workers.start()
        wait_until(lambda: gate.waiting() == 8)
        assert [job.status for job in jobs()].count("todo") == 1

        gate.open()
        wait_until(lambda: len(applied()) == len(deliveries))

    assert set(appliers()) == {first.pid, second.pid}
    assert set(Counter(applied()).values()) == {1}


def test_worker_asked_to_stop_finishes_what_it_has_begun(workers: Workers) -> None:
    with Gate() as gate:
        worker = workers.start()
        begun = deliver("test.hold", lock=gate.lock)
        wait_until(lambda: gate.waiting() == 1)

        worker.ask_to_stop()
        wait_until(lambda: "Stop requested" in worker.log)
        late = deliver()
        gate.open()

        assert worker.wait() == 0
    assert (status(begun), status(late)) == (Status.PROCESSED, Status.RECEIVED)
    assert [job.status for job in jobs()] == ["todo"]


@pytest.mark.slow
def test_worker_outlives_a_restart_of_the_database(workers: Workers) -> None:
    worker = workers.start()
    before = [deliver() for _ in range(8)]
    wait_until(lambda: {status(delivery) for delivery in before} == {Status.PROCESSED})

    with nobody_connects():
        wait_until(lambda: "cannot listen for new jobs" in worker.log)
    after = [deliver() for _ in range(8)]

    wait_until(lambda: {status(delivery) for delivery in after} == {Status.PROCESSED})
    assert worker.process.poll() is None, worker.log


@contextmanager
def nobody_connects() -> Iterator[None]:
    """End all connections but our own, and refuse new ones for the block."""
    found = connection.settings_dict
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND NOT pid = ANY(%s)"
    with psycopg.connect(
        host=found["HOST"],
        port=found["PORT"],
        user=found["USER"],
        password=found["PASSWORD"],
        dbname="postgres",
        autocommit=True,
    ) as other:
        other.execute(allow.format(sql.Identifier(found["NAME"]), sql.SQL("false")))
        try:
            other.execute(end, [found["NAME"], [connection.connection.info.backend_pid]])
            yield
        finally:
            other.execute(allow.format(sql.Identifier(found["NAME"]), sql.SQL("true")))


def test_job_deferred_without_a_count_of_failures_is_the_first_try(workers: Workers) -> None:
    delivery = deliver()
    process_webhook_delivery.defer(delivery_id=delivery.pk)

    workers.start()
    wait_until(lambda: jobs() == [])

    assert len(applied()) == 1
