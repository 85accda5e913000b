"""Liveness and readiness, for orchestrators and load balancers; public, and JSON only.

`/healthz` says that the process answers. `/readyz` says whether it can do its work: the database
answers, its migrations are applied, the queue's tables are there. Clerk's state stands beside them
for a person to read and never makes a process unready: lists are served without Clerk, and taking
every process out of service would turn Clerk's outage into ours.
"""

import asyncio
import datetime
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
from health_check.exceptions import ServiceUnavailable  # type: ignore[import-untyped]
from health_check.views import HealthCheckView  # type: ignore[import-untyped]
from procrastinate.contrib.django import app as queue
from procrastinate.exceptions import ConnectorException
from rest_framework import status

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured
from clerk_integration.wire.client import fetch_jwks

CHECK_TIMEOUT = datetime.timedelta(seconds=2)
"""What a check may take; the library adds a second before it gives up."""

CLERK_INTERVAL_SECONDS = 60.0
"""Least time between two looks at Clerk, however often `/readyz` is asked."""


def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200: the process is alive. Touches neither the database nor the network."""
    return JsonResponse({"status": "alive"})


@dataclass
class Database(HealthCheck):  # type: ignore[misc]  # untyped library
    """The database answers a query."""

    timeout = CHECK_TIMEOUT

    def run(self) -> None:
        """Raise ServiceUnavailable when it does not; its own message may name hosts and users."""
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except Error as exc:
            raise ServiceUnavailable("the database does not answer") from exc


@dataclass
class Migrations(HealthCheck):  # type: ignore[misc]  # untyped library
    """Every migration of this code is applied to the database."""

    timeout = CHECK_TIMEOUT

    def run(self) -> None:
        """Raise ServiceUnavailable and name the apps whose newest migration is missing."""
        try:
            applied = MigrationRecorder(connection).applied_migrations()
        except Error as exc:
            raise ServiceUnavailable("the database does not answer") from exc
        missing = sorted({app for app, name in _newest_migrations() if (app, name) not in applied})
        if missing:
            raise ServiceUnavailable(f"run `manage.py migrate`: not applied for {', '.join(missing)}")


@dataclass
class Queue(HealthCheck):  # type: ignore[misc]  # untyped library
    """The tables of the background queue are there."""

    timeout = CHECK_TIMEOUT

    def run(self) -> None:
        """Raise ServiceUnavailable when they are not."""
        try:
            has_tables = queue.check_connection()
        except (Error, ConnectorException) as exc:
            raise ServiceUnavailable("the database does not answer") from exc
        if not has_tables:
            raise ServiceUnavailable("run `manage.py migrate`: the queue has no tables")


class ReadinessView(HealthCheckView):  # type: ignore[misc]  # untyped library
    """`GET /readyz`: 200 when every check holds, 503 otherwise, with what each of them says."""

    checks = (Database, Migrations, Queue)

    async def get(self, request: HttpRequest, *args: object, **kwargs: object) -> JsonResponse:
        """Run the checks side by side; each is given up after three seconds."""
        with self.get_executor() as executor:
            results = await asyncio.gather(*(check.get_result(executor) for check in self.get_checks()))
        return _readiness(results)

    @contextmanager
    def get_executor(self) -> Iterator[Executor]:
        """Give all checks one thread, and so one database connection, which is closed after them.

        Nobody waits for the thread: it may hang in a connection that was given up.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readyz")
        try:
            yield executor
        finally:
            executor.submit(connections.close_all)
            executor.shutdown(wait=False)


class ClerkState:
    """What the last look at Clerk found; asking for it never waits."""

    def __init__(
        self, look: Callable[[], object] = fetch_jwks, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._next_look = 0.0
        self._found = "unknown"

    def get(self) -> str:
        """Return `ok`, `unavailable`, `misconfigured`, or `unknown` before the first look is over.

        Starts the next look, in a thread of its own, once the last one is a minute old. It fetches
        Clerk's JWKS, which has no rate limit.
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


_clerk_state = ClerkState()


def _readiness(results: Sequence[HealthCheckResult]) -> JsonResponse:
    is_ready = not any(result.error for result in results)
    body = {
        "status": "ready" if is_ready else "unready",
        "checks": {
            type(result.check).__name__.lower(): "ok" if result.error is None else str(result.error)
            for result in results
        },
        "clerk": _clerk_state.get(),
    }
    return JsonResponse(body, status=status.HTTP_200_OK if is_ready else status.HTTP_503_SERVICE_UNAVAILABLE)


@cache
def _newest_migrations() -> frozenset[tuple[str, str]]:
    """The last migration of each app, read from the code once per process."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())
