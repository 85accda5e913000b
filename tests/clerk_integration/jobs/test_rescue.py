"""Jobs whose worker died, and deliveries whose job was lost."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections, transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.jobs.queue import queue
from clerk_integration.models import WebhookDelivery
from clerk_integration.tasks import purge_deliveries
from clerk_integration.tasks import rescue_stalled_jobs as rescue_task
from clerk_integration.webhooks.rescue import enqueue_deliveries_without_job, replace_overdue_jobs
from tests.webhooks import statements
from tests.workers import deliver, delivery, empty_queue, jobs, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

Status = WebhookDelivery.Status

# What a worker does with a job in the end.
FINISH = "SELECT procrastinate_finish_job_v1(%s, 'succeeded', true)"
RETRY = "SELECT procrastinate_retry_job_v2(%s, now(), NULL, NULL, NULL)"


def rescue_stalled_jobs() -> int:
    """Run the task as a worker does."""
    return rescue_task(0)


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    empty_queue()
    yield
    empty_queue()


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


def fetch(worker_id: int) -> int:
    """Let the worker take the next job, as Procrastinate does; return the job's id, 0 for none."""
    return int(query("SELECT COALESCE((procrastinate_fetch_job_v2(NULL, %s)).id, 0)", worker_id))


def statuses(stored: WebhookDelivery) -> list[str]:
    return [job.status for job in jobs(stored)]


@contextmanager
def locked_elsewhere(statement: str, *parameters: Any) -> Iterator[None]:
    """Run the statement in another session, which keeps its locks for the block."""
    with ThreadPoolExecutor(1) as other:

        def begin() -> None:
            connection.set_autocommit(False)
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)

        other.submit(begin).result()
        try:
            yield
        finally:
            other.submit(connections.close_all).result()


def test_job_of_a_silent_worker_is_replaced_and_the_crash_is_counted() -> None:
    stored = deliver()
    crashed = fetch(worker(silent_for=16))

    assert rescue_stalled_jobs() == 1

    assert statuses(stored) == ["aborted", "todo"]
    assert jobs(stored)[0].pk == crashed
    stored.refresh_from_db()
    assert (stored.status, stored.crashes) == (Status.RECEIVED, 1)


def test_job_of_a_worker_that_is_no_longer_registered_is_replaced() -> None:
    stored = deliver()
    pruned = worker()
    fetch(pruned)
    query("DELETE FROM procrastinate_workers WHERE id = %s", pruned)

    assert rescue_stalled_jobs() == 1

    assert statuses(stored) == ["aborted", "todo"]


def test_job_of_a_living_worker_is_left_alone() -> None:
    stored = deliver()
    fetch(worker(silent_for=14))

    assert rescue_stalled_jobs() == 0

    assert statuses(stored) == ["doing"]


def test_third_crash_fails_job_and_delivery() -> None:
    stored = deliver()
    for _ in range(3):
        fetch(worker(silent_for=16))
        assert rescue_stalled_jobs() == 1

    assert statuses(stored) == ["aborted", "aborted", "failed"]
    stored.refresh_from_db()
    assert (stored.status, stored.crashes) == (Status.FAILED, 3)
    assert "crashed its worker 3 times" in stored.error


def test_delivery_that_was_processed_before_the_crash_is_not_enqueued_again() -> None:
    stored = deliver()
    fetch(worker(silent_for=16))
    WebhookDelivery.objects.update(status=Status.PROCESSED)

    assert rescue_stalled_jobs() == 1

    assert statuses(stored) == []
    stored.refresh_from_db()
    assert (stored.status, stored.crashes) == (Status.PROCESSED, 0)


def test_job_of_a_purged_delivery_is_closed() -> None:
    stored = deliver()
    fetch(worker(silent_for=16))
    WebhookDelivery.objects.all().delete()

    assert rescue_stalled_jobs() == 1

    assert jobs(stored) == []


UNREADABLE: list[Any] = [
    {},
    {"failures": 1},
    {"delivery_id": None},
    {"delivery_id": "seven"},
    {"delivery_id": True},
    {"delivery_id": 1.5},
    {"delivery_id": [1]},
    {"delivery_id": 0, "failures": "many"},
    [],
    7,
]


@pytest.mark.parametrize("crashed", [rescue_stalled_jobs, replace_overdue_jobs])
@pytest.mark.parametrize("arguments", UNREADABLE, ids=json.dumps)
def test_job_that_names_no_delivery_is_failed_and_the_others_are_rescued(
    arguments: Any, crashed: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    odd, stored = deliver(), deliver()
    odd_job = jobs(odd)[0].pk
    query("UPDATE procrastinate_jobs SET args = %s::jsonb WHERE id = %s", json.dumps(arguments), odd_job)
    taken_by = worker(silent_for=16 if crashed is rescue_stalled_jobs else 0)
    assert [fetch(taken_by), fetch(taken_by)] == [odd_job, jobs_of(stored)[0].pk]
    query("UPDATE procrastinate_events SET at = at - interval '6 minutes'")

    assert crashed() == 2

    assert ProcrastinateJob.objects.get(pk=odd_job).status == "failed"
    assert [record.job for record in caplog.records if record.levelname == "ERROR"] == [odd_job]  # type: ignore[attr-defined]
    assert [job.status for job in jobs_of(stored)] == ["aborted", "todo"]


def jobs_of(stored: WebhookDelivery) -> list[ProcrastinateJob]:
    """As `jobs`, among jobs that may name no delivery."""
    return list(ProcrastinateJob.objects.filter(args__contains={"delivery_id": stored.pk}).order_by("pk"))


@pytest.mark.parametrize("arguments", UNREADABLE, ids=json.dumps)
def test_job_that_names_no_delivery_hides_no_lost_one(arguments: Any) -> None:
    odd, lost = deliver(), delivery()
    query("UPDATE procrastinate_jobs SET args = %s::jsonb", json.dumps(arguments))
    make_old(lost)

    assert enqueue_deliveries_without_job() == 1

    assert [job.status for job in jobs_of(lost)] == ["todo"]
    assert jobs_of(odd) == []


def test_delivery_that_somebody_still_processes_is_left_to_them() -> None:
    stored = deliver()
    fetch(worker(silent_for=16))

    with locked_elsewhere("SELECT FROM webhook_deliveries WHERE id = %s FOR UPDATE", stored.pk):
        assert rescue_stalled_jobs() == 0
        assert statuses(stored) == ["doing"]

    assert rescue_stalled_jobs() == 1


def test_job_that_is_being_finished_is_left_to_its_worker() -> None:
    stored = deliver()
    crashed = fetch(worker(silent_for=16))

    with locked_elsewhere(FINISH, crashed):
        assert rescue_stalled_jobs() == 0

    assert statuses(stored) == ["doing"]


def test_failures_before_a_crash_count_and_the_crash_does_not() -> None:
    stored = deliver()
    first = worker(silent_for=16)
    for _ in range(2):
        queue.retry_job_by_id(fetch(first), retry_at=long_ago())
    fetch(first)

    rescue_stalled_jobs()

    replacement = jobs(stored)[-1]
    assert (replacement.args["failures"], replacement.attempts) == (2, 0)


def test_jobs_that_fell_together_run_one_at_a_time() -> None:
    suspects = [deliver() for _ in range(3)]
    dead, living = worker(silent_for=16), worker()
    for _ in suspects:
        fetch(dead)

    assert rescue_stalled_jobs() == 3
    others = [deliver() for _ in range(2)]

    taken = [fetch(living) for _ in range(4)]
    assert taken == [jobs(suspects[0])[-1].pk, *(jobs(other)[-1].pk for other in others), 0]


def test_woken_worker_cannot_touch_the_job_that_took_its_jobs_place() -> None:
    stored = deliver()
    frozen = fetch(worker(silent_for=16))
    rescue_stalled_jobs()
    replacement = fetch(worker())

    for ending in (FINISH, RETRY):
        with pytest.raises(Exception, match="Job was not found"), transaction.atomic():
            query(ending, frozen)

    assert [(job.pk, job.status) for job in jobs(stored)] == [(frozen, "aborted"), (replacement, "doing")]


def test_rescues_at_the_same_time_replace_a_job_once() -> None:
    stored = [deliver() for _ in range(20)]
    dead = worker(silent_for=16)
    for _ in stored:
        fetch(dead)

    assert sum(together(4, rescue_stalled_jobs)) == len(stored)

    assert [statuses(each) for each in stored] == [["aborted", "todo"]] * len(stored)
    assert set(WebhookDelivery.objects.values_list("crashes", flat=True)) == {1}


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


def test_crashed_job_of_another_task_is_tried_three_times() -> None:
    purge_deliveries.configure().defer(timestamp=0)
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
    deliver()
    rescue_id = rescue_task.configure().defer(timestamp=0)

    assert fetch(worker()) == rescue_id


def test_job_that_its_living_worker_has_forgotten_is_replaced_without_a_crash() -> None:
    stored = deliver()
    fetch(worker())
    query("UPDATE procrastinate_events SET at = at - interval '6 minutes'")

    assert replace_overdue_jobs() == 1

    assert statuses(stored) == ["aborted", "todo"]
    stored.refresh_from_db()
    assert stored.crashes == 0


def test_job_that_has_just_started_is_not_forgotten() -> None:
    deliver()
    living = worker()
    queue.retry_job_by_id(fetch(living), retry_at=long_ago())
    query("UPDATE procrastinate_events SET at = at - interval '6 minutes'")
    fetch(living)

    assert replace_overdue_jobs() == 0


def test_delivery_without_a_job_is_enqueued_after_a_minute() -> None:
    lost, fresh = delivery(), delivery()
    waiting, running, failed = deliver(), deliver(), delivery()
    fetch(worker())
    make_old(lost, waiting, running, failed)
    WebhookDelivery.objects.filter(pk=failed.pk).update(status=Status.FAILED)

    assert enqueue_deliveries_without_job() == 1

    assert statuses(lost) == ["todo"]
    assert (statuses(fresh), statuses(failed)) == ([], [])
    assert {*statuses(waiting), *statuses(running)} == {"todo", "doing"}
    assert enqueue_deliveries_without_job() == 0


def test_delivery_whose_job_has_ended_without_processing_it_is_enqueued() -> None:
    stored = deliver()
    query("SELECT procrastinate_finish_job_v1(%s, 'failed', false)", fetch(worker()))
    make_old(stored)

    assert enqueue_deliveries_without_job() == 1

    assert statuses(stored) == ["failed", "todo"]


def test_deliveries_without_a_job_are_enqueued_500_at_a_time() -> None:
    make_old(*(delivery() for _ in range(501)))

    assert [enqueue_deliveries_without_job() for _ in range(3)] == [500, 1, 0]


@pytest.mark.parametrize(
    "rescue", [rescue_stalled_jobs, replace_overdue_jobs, enqueue_deliveries_without_job]
)
def test_rescue_limits_its_waits_before_it_locks_anything(rescue: Callable[[], int]) -> None:
    with statements() as taken:
        rescue()

    assert "idle_in_transaction_session_timeout" in taken[0]
    assert "lock_timeout" in taken[0]


@pytest.mark.parametrize(
    ("rescue", "name"),
    [
        (rescue_stalled_jobs, "rescue_stalled_jobs"),
        (replace_overdue_jobs, "replace_overdue_jobs"),
        (enqueue_deliveries_without_job, "enqueue_deliveries_without_job"),
    ],
)
def test_rescue_while_another_one_runs_does_nothing(rescue: Callable[[], int], name: str) -> None:
    dead = worker(silent_for=16 if rescue is rescue_stalled_jobs else 0)
    for _ in range(3):
        deliver()
        fetch(dead)
    query("UPDATE procrastinate_events SET at = at - interval '6 minutes'")
    make_old(delivery())

    with locked_elsewhere("SELECT pg_advisory_xact_lock(hashtext(%s))", name):
        assert rescue() == 0
    wait_until(lambda: rescue() > 0)


def test_rescue_of_many_jobs_takes_500_at_a_time() -> None:
    deliver()
    dead = worker(silent_for=16)
    fetch(dead)
    query(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id)"
        " SELECT 'other', 'tests.other', '{}', 'doing', %s FROM generate_series(1, 500)",
        dead,
    )
    assert [rescue_stalled_jobs() for _ in range(3)] == [500, 1, 0]


def make_old(*stored: WebhookDelivery) -> None:
    query(
        "UPDATE webhook_deliveries SET received_at = now() - interval '61 seconds' WHERE id = ANY(%s)",
        [each.pk for each in stored],
    )


def long_ago() -> Any:
    return query("SELECT now() - interval '1 day'")
