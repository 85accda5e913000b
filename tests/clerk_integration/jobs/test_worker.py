"""`manage.py procrastinate worker`: real processes on the test database."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
import pytest
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob
from psycopg import sql

from clerk_integration.jobs.connector import Connector
from clerk_integration.models import WebhookDelivery
from clerk_integration.tasks import rescue_stalled_jobs
from tests.workers import (
    Gate,
    Workers,
    applied,
    appliers,
    deliver,
    status,
    wait_until,
    wake_up_statuses,
)

pytestmark = pytest.mark.django_db(transaction=True)

Status = WebhookDelivery.Status


def test_worker_connection_after_a_query_has_no_open_transaction() -> None:
    """A process that is frozen there would keep row locks, for which each new worker waits."""

    async def status_after_a_query() -> str:
        connector = Connector().get_worker_connector()
        await connector.open_async()
        try:
            async with connector.pool.connection() as session:
                await session.execute("SELECT 1")
                return session.info.transaction_status.name
        finally:
            await connector.close_async()

    assert asyncio.run(status_after_a_query()) == "IDLE"


@pytest.mark.slow
def test_worker_started_late_processes_what_has_gathered(workers: Workers) -> None:
    gathered = [deliver() for _ in range(20)]

    workers.start()
    wait_until(lambda: len(applied()) == len(gathered))

    wait_until(lambda: wake_up_statuses() == [])
    assert [status(delivery) for delivery in gathered] == [Status.PROCESSED] * len(gathered)


def test_failing_delivery_is_tried_again_later_and_holds_up_no_other(workers: Workers) -> None:
    poisonous = deliver("test.fail")
    others = [deliver() for _ in range(8)]

    workers.start()
    wait_until(lambda: {status(delivery) for delivery in others} == {Status.PROCESSED})
    wait_until(lambda: status(poisonous) == Status.FAILED)

    assert "this handler always fails" in poisonous.error
    assert poisonous.due_at is not None
    assert len(applied()) == len(others)
    wait_until(lambda: status(poisonous) and poisonous.attempts == 2)


@pytest.mark.slow
def test_two_workers_share_the_work_four_at_a_time(workers: Workers) -> None:
    with Gate() as gate:
        deliveries = [deliver("test.hold", lock=gate.lock) for _ in range(9)]
        first, second = workers.start(), workers.start()
        wait_until(lambda: gate.waiting() == 8)
        assert WebhookDelivery.objects.filter(claim=None).count() == 1

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
    assert wake_up_statuses() == ["todo"]


@pytest.mark.slow
def test_worker_outlives_a_database_that_is_down_and_one_that_is_read_only(workers: Workers) -> None:
    worker = workers.start()
    deliver_and_wait()

    with no_connections():
        wait_until(lambda: "The database is down or read-only" in worker.log)
    deliver_and_wait()
    with read_only():
        wait_until(lambda: worker.log.count("The database is down or read-only") == 2)
    deliver_and_wait()

    assert worker.process.poll() is None, worker.log
    assert "Traceback" not in worker.log
    assert worker.log.count("The database works again") == 2


def deliver_and_wait() -> None:
    """Have eight deliveries processed."""
    deliveries = [deliver() for _ in range(8)]
    wait_until(lambda: {status(delivery) for delivery in deliveries} == {Status.PROCESSED})


@pytest.mark.slow
def test_worker_started_while_the_database_is_down_works_once_it_is_up(workers: Workers) -> None:
    stored = deliver()
    with no_connections():
        worker = workers.launch()
        wait_until(lambda: "The database is down or read-only" in worker.log)
    wait_until(lambda: status(stored) == Status.PROCESSED)


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_worker_stopped_while_the_database_is_down_ends_with_a_reason(workers: Workers, signals: int) -> None:
    worker = workers.start()
    with no_connections():
        wait_until(lambda: "The database is down or read-only" in worker.log)
        for _ in range(signals):
            worker.ask_to_stop()
        assert worker.wait() != 0
    assert "Traceback" not in worker.log
    if signals == 1:
        assert "The worker stopped while the database was down" in worker.log


def test_worker_logs_one_short_line_for_each_job_that_did_something(workers: Workers) -> None:
    worker = workers.start()
    deliver_and_wait()
    rescue_stalled_jobs.configure().defer(timestamp=0)
    wait_until(lambda: not ProcrastinateJob.objects.exists())

    lines = [line for line in worker.log.splitlines() if "ended with status" in line]
    results = [int(number) for line in lines for number in re.findall(r"Result: (\d+)", line)]
    assert len(results) == len(lines)
    assert (sum(results), 0 in results) == (8, False)
    assert all(len(line) < 250 for line in lines)
    assert "Starting job" not in worker.log


@contextmanager
def no_connections() -> Iterator[None]:
    """Refuse connections to the database for the block, after ending those of others."""
    with administrator() as execute:
        execute("ALTER DATABASE {} ALLOW_CONNECTIONS false")
        try:
            end_other_connections()
            yield
        finally:
            execute("ALTER DATABASE {} ALLOW_CONNECTIONS true")


@contextmanager
def read_only() -> Iterator[None]:
    """Let others only read the database for the block."""
    with administrator() as execute:
        execute("ALTER DATABASE {} SET default_transaction_read_only = on")
        try:
            end_other_connections()
            yield
        finally:
            execute("ALTER DATABASE {} RESET default_transaction_read_only")
            end_other_connections()


@contextmanager
def administrator() -> Iterator[Callable[[LiteralString], object]]:
    """Connect to another database of the server, to change ours; `{}` in a statement stands for its name."""
    found = connection.settings_dict
    with psycopg.connect(
        host=found["HOST"],
        port=found["PORT"],
        user=found["USER"],
        password=found["PASSWORD"],
        dbname="postgres",
        autocommit=True,
    ) as other:
        yield lambda statement: other.execute(sql.SQL(statement).format(sql.Identifier(found["NAME"])))


def end_other_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
