"""Event types `test.*`: what a handler may do to its worker, on demand."""

import os
import signal
import time

from django.apps import AppConfig
from django.db import connection

from clerk_integration.webhooks.registry import ClerkEvent, register


class WorkerAppConfig(AppConfig):
    """Registers the handlers."""

    name = "tests.worker_app"

    def ready(self) -> None:
        register("test.apply", apply)
        register("test.hold", hold)
        register("test.fail", fail)
        register("test.crash", crash)


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


def crash(event: ClerkEvent) -> None:
    """Apply the event, then take the worker down."""
    apply(event)
    os.kill(os.getpid(), signal.SIGKILL)
