"""Real workers on the test database, and deliveries for them to process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.wake_ups import DRAIN, wake_if_due

DEADLINE = 60.0
"""Seconds; what has not happened by then will not happen."""

_numbers = count()


class Worker:
    """A running `manage.py procrastinate worker`, which the queue knows by its `worker_id`."""

    worker_id: int

    def __init__(self, log: Path, settings_module: str, url: str | None, *options: str) -> None:
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, settings.BASE_DIR / "manage.py", "procrastinate", "worker", *options],
                cwd=settings.BASE_DIR,
                env={
                    **os.environ,
                    "DATABASE_URL": url or database_url(),
                    "DJANGO_SETTINGS_MODULE": settings_module,
                    "LOG_LEVEL": "INFO",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """End it without any chance to clean up."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop it where it is."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Continue the frozen process."""
        self.process.send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Send what a supervisor sends."""
        self.process.terminate()

    def wait(self) -> int:
        """Return its exit status."""
        return self.process.wait(DEADLINE)


class Workers:
    """Starts workers; leaving the block of `workers_on` ends them."""

    def __init__(self, directory: Path, settings_module: str, url: str | None) -> None:
        self._url = url
        self._directory = directory
        self._settings_module = settings_module
        self.all: list[Worker] = []

    def launch(self, *options: str) -> Worker:
        """Start a worker."""
        log = self._directory / f"worker-{next(_numbers)}.log"
        worker = Worker(log, self._settings_module, self._url, *options)
        self.all.append(worker)
        return worker

    def start(self, *options: str) -> Worker:
        """Start a worker and return once it takes jobs."""
        known = newest_worker_id()
        worker = self.launch(*options)
        try:
            wait_until(lambda: worker.process.poll() is not None or newest_worker_id() > known)
        except AssertionError:
            pytest.fail(f"The worker did not register. Its log:\n{worker.log}")
        assert worker.process.poll() is None, worker.log
        worker.worker_id = newest_worker_id()
        return worker

    def kill(self) -> None:
        """End all that run."""
        for worker in self.all:
            worker.kill()


@contextmanager
def workers_on(
    directory: Path, settings_module: str = "tests.worker_settings", *, url: str | None = None
) -> Iterator[Workers]:
    """Give an empty queue, and workers that log into `directory` and use the database at `url`."""
    empty_queue()
    workers = Workers(directory, settings_module, url)
    with applied_events():
        try:
            yield workers
        finally:
            workers.kill()
            empty_queue()


def newest_worker_id() -> int:
    """The id of the worker that registered last, 0 before the first."""
    return ProcrastinateWorker.objects.aggregate(newest=Max("pk"))["newest"] or 0


def empty_queue() -> None:
    """Delete all jobs and workers."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")


def register_worker(*, heartbeat_seconds_ago: float) -> None:
    """Have the queue know a worker that no process stands for."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s * interval '1 second')",
            [heartbeat_seconds_ago],
        )


def database_url() -> str:
    """The test database, for processes that connect over the server's socket or TCP."""
    found = connection.settings_dict
    where = urlencode({"host": found["HOST"], "port": found["PORT"]})
    return f"postgres://{found['USER']}:{found['PASSWORD']}@/{found['NAME']}?{where}"


@contextmanager
def applied_events() -> Iterator[None]:
    """Have the table in which the handlers of `tests.worker_app` write."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS applied_events")
        cursor.execute("CREATE TABLE applied_events (id serial, name text, worker integer)")
        yield
        cursor.execute("DROP TABLE applied_events")


def applied() -> list[str]:
    """The names of the events that were applied, in order, once for each time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM applied_events ORDER BY id")
        return [name for (name,) in cursor.fetchall()]


def appliers() -> list[int]:
    """The process ids of the workers that applied events."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT worker FROM applied_events ORDER BY id")
        return [pid for (pid,) in cursor.fetchall()]


def delivery(event_type: str = "test.apply", **data: Any) -> WebhookDelivery:
    """Store a delivery, and add no wake-up."""
    number = next(_numbers)
    return WebhookDelivery.objects.create(
        svix_id=f"msg_{number}",
        event_type=event_type,
        payload={"object": "event", "type": event_type, "data": {"name": f"event {number}", **data}},
    )


def deliver(event_type: str = "test.apply", **data: Any) -> WebhookDelivery:
    """Store a delivery and wake the workers."""
    with transaction.atomic():
        stored = delivery(event_type, **data)
        wake_if_due()
    return stored


def status(stored: WebhookDelivery) -> str:
    """The delivery's status now."""
    stored.refresh_from_db()
    return stored.status


def wake_up_statuses() -> list[str]:
    """The statuses of the jobs that wake workers up, oldest first."""
    wake_ups = ProcrastinateJob.objects.filter(task_name=DRAIN).order_by("pk")
    return list(wake_ups.values_list("status", flat=True))


def wait_until(condition: Callable[[], object], *, seconds: float = DEADLINE) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@contextmanager
def locked_elsewhere(statement: str, *parameters: Any) -> Iterator[None]:
    """Run the statement in another session, which keeps its locks for the block."""
    with ThreadPoolExecutor(1) as other:

        def begin() -> None:
            connection.set_autocommit(False)
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)

        def end() -> None:
            # The server answers a rollback after it has released the locks, and a disconnection before.
            connection.rollback()
            connection.close()

        other.submit(begin).result()
        try:
            yield
        finally:
            other.submit(end).result()


class Gate:
    """Holds the handler `test.hold` inside its transaction until it is opened."""

    def __init__(self) -> None:
        self.lock = next(_numbers) + 1_000_000

    def __enter__(self) -> "Gate":
        self._query("SELECT pg_advisory_lock(%s)")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.open()

    def open(self) -> None:
        """Let everybody through; more than once is no harm."""
        while self.held():
            self._query("SELECT pg_advisory_unlock(%s)")

    def held(self) -> int:
        """How often it is shut."""
        return self._count("granted AND pid = pg_backend_pid()")

    def waiting(self) -> int:
        """How many handlers stand before it, each in the middle of its transaction."""
        return self._count("NOT granted")

    def _count(self, condition: str) -> int:
        here = "(SELECT oid FROM pg_database WHERE datname = current_database())"
        locks = f"FROM pg_locks WHERE locktype = 'advisory' AND database = {here} AND objid = %s"
        return int(self._query(f"SELECT count(*) {locks} AND {condition}"))

    def _query(self, statement: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement, [self.lock])
            return cursor.fetchone()[0]
