"""Jobs whose worker died."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections, transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.tasks import drain_webhooks, purge_deliveries
from clerk_integration.tasks import rescue_stalled_jobs as rescue_task
from tests.webhooks import statements
from tests.workers import locked_elsewhere

pytestmark = pytest.mark.django_db(transaction=True)

# What a worker does with a job in the end.
FINISH = "SELECT procrastinate_finish_job_v1(%s, 'succeeded', true)"
RETRY = "SELECT procrastinate_retry_job_v2(%s, now(), NULL, NULL, NULL)"


def rescue_stalled_jobs() -> int:
    """Run the task as a worker does."""
    return rescue_task(0)


def query(statement: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()[0] if cursor.description else None


def worker(*, silent_for: float = 0) -> int:
    """Register a worker whose last sign of life is some seconds old."""
    return int(
        query(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s * interval '1 second')"
            " RETURNING id",
            silent_for,
        )
    )


def enqueue() -> int:
    """Enqueue a job that may crash; return its id."""
    return int(purge_deliveries.configure().defer(timestamp=0))


def fetch(worker_id: int) -> int:
    """Let the worker take the next job, as Procrastinate does; return the job's id, 0 for none."""
    return int(query("SELECT COALESCE((procrastinate_fetch_job_v2(NULL, %s)).id, 0)", worker_id))


def statuses() -> list[str]:
    return list(ProcrastinateJob.objects.order_by("pk").values_list("status", flat=True))


def test_job_of_a_silent_worker_is_put_back() -> None:
    crashed = enqueue()
    fetch(worker(silent_for=16))

    assert rescue_stalled_jobs() == 1

    assert statuses() == ["todo"]
    assert fetch(worker()) == crashed


def test_job_of_a_worker_that_died_before_the_clock_was_set_back_is_put_back() -> None:
    enqueue()
    died = worker(silent_for=-3600)
    fetch(died)

    assert rescue_stalled_jobs() == 0, "the worker may still live"
    query("UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '16 s'")

    assert rescue_stalled_jobs() == 1
    assert statuses() == ["todo"]


def test_job_of_a_worker_that_is_no_longer_registered_is_put_back() -> None:
    enqueue()
    pruned = worker()
    fetch(pruned)
    query("DELETE FROM procrastinate_workers WHERE id = %s", pruned)

    assert rescue_stalled_jobs() == 1

    assert statuses() == ["todo"]


def test_job_of_a_living_worker_is_left_alone() -> None:
    enqueue()
    fetch(worker(silent_for=14))

    assert rescue_stalled_jobs() == 0

    assert statuses() == ["doing"]


def test_job_that_is_being_finished_is_left_to_its_worker() -> None:
    crashed = enqueue()
    fetch(worker(silent_for=16))

    with locked_elsewhere(FINISH, crashed):
        assert rescue_stalled_jobs() == 0

    assert statuses() == ["doing"]


def test_woken_worker_cannot_touch_a_job_that_has_ended() -> None:
    job = enqueue()
    for _ in range(3):
        fetch(worker(silent_for=16))
        rescue_stalled_jobs()

    with pytest.raises(Exception, match="Job was not found"), transaction.atomic():
        query(FINISH, job)

    assert statuses() == ["failed"]


def test_rescues_at_the_same_time_take_a_job_once() -> None:
    dead = worker(silent_for=16)
    for _ in range(20):
        enqueue()
        fetch(dead)

    assert sum(together(4, rescue_stalled_jobs)) == 20

    assert statuses() == ["todo"] * 20
    assert set(ProcrastinateJob.objects.values_list("attempts", flat=True)) == {1}


def together(times: int, action: Callable[[], int]) -> list[int]:
    barrier = Barrier(times)

    def run() -> int:
        barrier.wait()
        try:
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return [future.result() for future in [pool.submit(run) for _ in range(times)]]


def test_crashed_job_is_tried_three_times() -> None:
    enqueue()
    seen = []
    for _ in range(3):
        fetch(worker(silent_for=16))
        assert rescue_stalled_jobs() == 1
        seen.append(ProcrastinateJob.objects.get().status)

    assert seen == ["todo", "todo", "failed"]


def test_retries_of_its_own_do_not_count_against_a_crashed_job() -> None:
    @app.task(name="tests.retried", retry=2)
    def retried() -> None: ...

    retried.defer()
    seen = []
    for _ in range(5):
        fetch(worker(silent_for=16))
        assert rescue_stalled_jobs() == 1
        seen.append(ProcrastinateJob.objects.get().status)
    del app.tasks["tests.retried"]

    assert seen == ["todo", "todo", "todo", "todo", "failed"]


def test_crashed_rescue_neither_stops_the_next_one_nor_piles_up() -> None:
    rescue_task.configure().defer(timestamp=0)
    fetch(worker(silent_for=16))
    rescue_task.configure().defer(timestamp=10)

    assert rescue_stalled_jobs() == 1

    assert [job.status for job in ProcrastinateJob.objects.order_by("pk")] == ["aborted", "todo"]


def test_rescue_comes_before_every_delivery() -> None:
    drain_webhooks.configure().defer(timestamp=0)
    rescue_id = rescue_task.configure().defer(timestamp=0)

    assert fetch(worker()) == rescue_id


def test_rescue_limits_its_waits_before_it_locks_anything() -> None:
    with statements() as taken:
        rescue_stalled_jobs()

    assert "idle_in_transaction_session_timeout" in taken[0]
    assert "lock_timeout" in taken[0]


def test_rescue_while_another_one_runs_does_nothing() -> None:
    enqueue()
    fetch(worker(silent_for=16))

    with locked_elsewhere("SELECT pg_advisory_xact_lock(hashtext(%s))", "rescue_stalled_jobs"):
        assert rescue_stalled_jobs() == 0
    assert rescue_stalled_jobs() == 1


def test_rescue_of_many_jobs_takes_500_at_a_time() -> None:
    dead = worker(silent_for=16)
    query(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id)"
        " SELECT 'other', 'tests.other', '{}', 'doing', %s FROM generate_series(1, 501)",
        dead,
    )
    assert [rescue_stalled_jobs() for _ in range(3)] == [500, 1, 0]
