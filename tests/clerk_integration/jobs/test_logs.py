"""Which records of Procrastinate a worker writes, and how long they are."""

import logging
from typing import Any

import pytest
from django.db import InternalError, OperationalError
from psycopg.errors import ReadOnlySqlTransaction

from clerk_integration.entities import UnreadableRecord
from clerk_integration.exceptions import ClerkUnavailable
from clerk_integration.jobs.logs import JobLogFilter

WORKER = {"name": "worker", "worker_id": 5, "job_id": 7, "queues": ["webhooks"] * 20}


def record(action: str, error: BaseException | None = None, **job: Any) -> logging.LogRecord:
    """A record as Procrastinate makes it."""
    exc_info = None if error is None else (type(error), error, None)
    made = logging.LogRecord("procrastinate.worker", logging.INFO, __file__, 1, "Job ended", (), exc_info)
    extra = {"action": action, "worker": WORKER, "job": {"id": 7, "task_kwargs": {}, **job}, "duration": 1.5}
    made.__dict__.update(extra)
    return made


def is_written(made: logging.LogRecord) -> bool:
    return bool(JobLogFilter().filter(made))


def test_records_that_report_no_event_are_dropped() -> None:
    periodic: Any = {"task_kwargs": {"timestamp": 1}}
    assert not is_written(record("start_job"))
    assert not is_written(record("job_success", **periodic))
    assert not is_written(record("periodic_task_deferred", **periodic))


def test_records_of_other_jobs_failures_and_libraries_are_written() -> None:
    assert is_written(record("job_success"))
    assert is_written(record("job_error", RuntimeError(), task_kwargs={"timestamp": 1}))
    found_something = record("job_success", task_kwargs={"timestamp": 1})
    found_something.result = 3
    assert is_written(found_something)
    other = logging.LogRecord("django.request", logging.INFO, __file__, 1, "Not Found", (), None)
    assert is_written(other)


def test_record_keeps_the_number_of_the_job_alone() -> None:
    made = record("job_success")
    assert is_written(made)
    assert made.__dict__["job"] == 7
    assert not {"worker", "action", "duration"} & made.__dict__.keys()


def read_only() -> InternalError:
    error = InternalError("cannot execute UPDATE in a read-only transaction")
    error.__cause__ = ReadOnlySqlTransaction()
    return error


@pytest.mark.parametrize(
    "error",
    [OperationalError("refused\nto connect"), read_only(), ClerkUnavailable("no"), UnreadableRecord("id")],
)
def test_expected_failure_is_one_line_without_a_traceback(error: Exception) -> None:
    made = record("job_error_retry", error)
    assert is_written(made)
    assert made.exc_info is None
    assert made.getMessage() == f"Job ended - {type(error).__name__}: {' '.join(str(error).split())}"


def test_mistake_of_ours_keeps_its_traceback() -> None:
    made = record("job_error", ZeroDivisionError())
    assert is_written(made)
    assert made.exc_info is not None
