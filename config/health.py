"""Liveness and readiness, for orchestrators and load balancers; public, and JSON only.

`/healthz` answers while the process is alive. `/readyz` says whether the process can work:

| status   | HTTP | when                                                                              |
| -------- | ---- | --------------------------------------------------------------------------------- |
| unready  | 503  | the database cannot be reached, or migrations are missing                         |
| degraded | 200  | the database is read-only, no worker runs, work is overdue, or Clerk fails        |
| ready    | 200  | otherwise                                                                         |

A degraded process still serves reads. Taking all degraded processes out of service would cause an outage.
"""

import asyncio
import datetime
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from django.db import Error, connection, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, JsonResponse
from health_check.base import HealthCheck, HealthCheckResult  # type: ignore[import-untyped]
from health_check.exceptions import ServiceUnavailable, ServiceWarning  # type: ignore[import-untyped]
from health_check.views import HealthCheckView  # type: ignore[import-untyped]
from procrastinate.contrib.django import app as queue
from procrastinate.exceptions import ConnectorException
from rest_framework import status

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured
from clerk_integration.wire.client import fetch_jwks
from tenants.monitoring.numbers import Waiting, due_deliveries, due_jobs, live_workers

logger = logging.getLogger(__name__)

CHECK_TIMEOUT = datetime.timedelta(seconds=2)
"""Time limit of a check. The library adds a second."""

CLERK_INTERVAL_SECONDS = 60.0
"""Minimum time between two requests to Clerk, even if `/readyz` is called more often."""

CLERK_RETRY_SECONDS = 5.0
"""The same after a request that failed, so that a short failure is shown for a short time only."""

MAX_JOB_AGE = datetime.timedelta(minutes=10)


def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200: the process is alive. Use neither the database nor the network."""
    return JsonResponse({"status": "alive"})


@dataclass
class Database(HealthCheck):  # type: ignore[misc]  # untyped library
    """The database answers a query, and accepts writes."""

    timeout = CHECK_TIMEOUT

    def run(self) -> None:
        """Raise ServiceUnavailable if the database does not answer, ServiceWarning if it is read-only."""
        with _database_errors(), connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_read_only')")
            if cursor.fetchone() == ("on",):
                raise ServiceWarning("the database is read-only: reads are answered, writes are refused")


@dataclass
class Migrations(HealthCheck):  # type: ignore[misc]  # untyped library
    """Every migration of this code is applied to the database."""

    timeout = CHECK_TIMEOUT

    def run(self) -> None:
        """Raise ServiceUnavailable with the names of the apps whose last migration is not applied."""
        with _database_errors():
            applied = MigrationRecorder(connection).applied_migrations()
        missing = sorted({app for app, name in _newest_migrations() if (app, name) not in applied})
        if missing:
            raise ServiceUnavailable(f"run `manage.py migrate`: not applied for {', '.join(missing)}")


@dataclass
class Queue(HealthCheck):  # type: ignore[misc]  # untyped library
    """The tables of the background queue exist, and no due job or webhook waits too long."""

    timeout = CHECK_TIMEOUT

    def run(self) -> None:
        """Raise ServiceUnavailable if the queue has no tables, ServiceWarning if due work waits too long."""
        with _database_errors():
            if not queue.check_connection():
                raise ServiceUnavailable("run `manage.py migrate`: the queue has no tables")
            overdue = [*_overdue("webhook", due_deliveries()), *_overdue("job", due_jobs())]
        if overdue:
            raise ServiceWarning(f"{'; '.join(overdue)}: start more workers")


@dataclass
class Workers(HealthCheck):  # type: ignore[misc]  # untyped library
    """At least one worker is running."""

    timeout = CHECK_TIMEOUT

    def run(self) -> None:
        """Raise ServiceWarning if no worker has sent a heartbeat lately."""
        with _database_errors():
            is_running = live_workers() > 0
        if not is_running:
            raise ServiceWarning("no worker is running: start `manage.py procrastinate worker`")


@contextmanager
def _database_errors() -> Iterator[None]:
    """Raise ServiceUnavailable for a database error, without its message, which may name hosts and users."""
    try:
        yield
    except (Error, ConnectorException) as exc:
        raise ServiceUnavailable("the database does not answer") from exc


def _overdue(kind: str, work: Waiting) -> Iterator[str]:
    """Yield how much work of a kind is waiting, if the oldest has waited for more than MAX_JOB_AGE."""
    if work.oldest_seconds > MAX_JOB_AGE.total_seconds():
        waiting = f"1 {kind} is" if work.count == 1 else f"{work.count} {kind}s are"
        yield f"{waiting} waiting, the oldest for {work.oldest_seconds // 60:.0f} minutes"


class ClerkProbe:
    """The result of the last request to Clerk. Reading it never waits."""

    def __init__(
        self, look: Callable[[], object] = fetch_jwks, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._next_look = 0.0
        self._found = "unknown"

    def get(self) -> str:
        """Return `ok`, `unavailable`, `misconfigured`, or `unknown` before the first request has ended.

        If the last request is old enough, start the next one in a thread of its own. It fetches Clerk's
        JWKS, which has no rate limit.
        """
        with self._lock:
            if self._clock() >= self._next_look:
                self._next_look = self._clock() + CLERK_INTERVAL_SECONDS
                threading.Thread(target=self._refresh, name="clerk-state", daemon=True).start()
            return self._found

    def _refresh(self) -> None:
        try:
            self._look()
        except ClerkMisconfigured:
            found = "misconfigured"
        except ClerkError:
            found = "unavailable"
        else:
            found = "ok"
        with self._lock:
            self._found = found
            if found != "ok":
                self._next_look = self._clock() + CLERK_RETRY_SECONDS


class ReadinessView(HealthCheckView):  # type: ignore[misc]  # untyped library
    """`GET /readyz`: the status, and the result of every check."""

    checks = (Database, Migrations, Queue, Workers)
    clerk_state = ClerkProbe()

    async def get(self, request: HttpRequest, *args: object, **kwargs: object) -> JsonResponse:
        """Run all checks; report a check that takes longer than three seconds as failed."""
        with self.get_executor() as executor:
            results = await asyncio.gather(*(check.get_result(executor) for check in self.get_checks()))
        return _readiness(results, self.clerk_state.get())

    @contextmanager
    def get_executor(self) -> Iterator[Executor]:
        """Run all checks in one thread with one database connection, and close the connection afterwards.

        The answer does not wait for the end of the thread, because the thread may hang while it connects.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readyz")
        try:
            yield executor
        finally:
            executor.submit(connections.close_all)
            executor.shutdown(wait=False)


def _readiness(results: Sequence[HealthCheckResult], clerk: str) -> JsonResponse:
    errors = [result.error for result in results if result.error is not None]
    clerk_fails = clerk not in ("ok", "unknown")
    if not all(isinstance(error, ServiceWarning) for error in errors):
        readiness = "unready"
    elif errors or clerk_fails:
        readiness = "degraded"
    else:
        readiness = "ready"
    checks = {
        type(result.check).__name__.lower(): "ok" if result.error is None else str(result.error)
        for result in results
    }
    # A database that is down is the reason of several checks.
    reasons = [*dict.fromkeys(map(str, errors)), *([f"Clerk is {clerk}."] if clerk_fails else [])]
    _log_change(readiness, reasons)
    code = status.HTTP_503_SERVICE_UNAVAILABLE if readiness == "unready" else status.HTTP_200_OK
    return JsonResponse({"status": readiness, "checks": checks, "clerk": clerk}, status=code)


def _log_change(readiness: str, reasons: list[str]) -> None:
    if readiness != _logged["readiness"]:
        _logged["readiness"] = readiness
        logger.warning("/readyz is now %s. %s", readiness, " ".join(reasons))


_logged = {"readiness": "ready"}


@cache
def _newest_migrations() -> frozenset[tuple[str, str]]:
    """Return the last migration of each app, read from the code once per process."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())
