"""Event types `test.*`: what a handler may do to its worker, on demand."""

import os
import signal
import time
from collections.abc import Sequence

from django.apps import AppConfig
from django.db import connection

from clerk_integration.webhooks.registry import ClerkEvent, register, register_batch


class WorkerAppConfig(AppConfig):
    """Registers the handlers."""

    name = "tests.worker_app"

    def ready(self) -> None:
        register("test.apply", apply)
        register("test.hold", hold)
        register("test.fail", fail)
        register("test.crash", crash)
        register("test.sleep", sleep)
        register_batch("test.many", many)


def apply(event: ClerkEvent) -> None:
    """Write down that the event was applied, and by which process, after the time that it names."""
    time.sleep(event.data.get("seconds", 0))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO applied_events (name, worker) VALUES (%s, %s)", [event.data["name"], os.getpid()]
        )


def hold(event: ClerkEvent) -> None:
    """Apply the event once nobody holds the advisory lock that it names."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [event.data["lock"]])
    apply(event)


def fail(event: ClerkEvent) -> None:
    """Apply the event, then fail."""
    apply(event)
    raise RuntimeError("this handler always fails")


def sleep(event: ClerkEvent) -> None:
    """Apply the event after the time that it names; the database is busy meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [event.data["database_seconds"]])
    apply(event)


def many(events: Sequence[ClerkEvent]) -> None:
    """Handle each event by the handler that it names."""
    for event in events:
        {"hold": hold, "crash": crash, "fail": fail, None: apply}[event.data.get("act")](event)


def crash(event: ClerkEvent) -> None:
    """Apply the event, then take the worker down."""
    apply(event)
    os.kill(os.getpid(), signal.SIGKILL)
