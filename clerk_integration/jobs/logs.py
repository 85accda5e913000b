"""Shorten the log of workers to one line for each job that did something."""

import logging

from django.db import InterfaceError, OperationalError
from psycopg.errors import ReadOnlySqlTransaction

from clerk_integration.entities import UnreadableRecord
from clerk_integration.exceptions import ClerkUnavailable

STARTED = "start_job"
SUCCEEDED = "job_success"
DEFERRED = "periodic_task_deferred"

ATTRIBUTES = ("worker", "job", "action", "start_timestamp", "end_timestamp", "duration", "result", "queues")

EXPECTED = (OperationalError, InterfaceError, ReadOnlySqlTransaction, ClerkUnavailable, UnreadableRecord)
"""Outages, and unreadable records of Clerk. The message explains these errors without a traceback."""


class JobLogFilter(logging.Filter):
    """Drop routine records of Procrastinate, and shorten its other records.

    The start of a job is dropped, and so is the success of a periodic task that returned nothing. Of a
    record's job attributes, only the job id is kept. A failure with an EXPECTED error gets no traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        if not record.name.startswith("procrastinate"):
            return True
        attributes = record.__dict__
        action = attributes.get("action")
        job = attributes.get("job") or {}
        is_periodic = "timestamp" in job.get("task_kwargs", {})
        if action in (STARTED, DEFERRED) or (
            action == SUCCEEDED and is_periodic and not attributes.get("result")
        ):
            return False
        for name in ATTRIBUTES:
            attributes.pop(name, None)
        if job:
            attributes["job"] = job["id"]
        error = record.exc_info[1] if record.exc_info else None
        # Django wraps the error of a read-only database in a general InternalError.
        if isinstance(error, EXPECTED) or isinstance(error and error.__cause__, EXPECTED):
            record.msg = f"{record.msg} - {type(error).__name__}: {' '.join(str(error).split())}"
            record.exc_info = None
        return True
