"""Procrastinate's connections to the job queue, which survive an outage of the database."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from django.core.management.base import CommandError
from procrastinate import App
from procrastinate.connector import Notify
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import JobContext
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.worker import Worker
from psycopg import AsyncConnection, InterfaceError, OperationalError
from psycopg.errors import RaiseException, ReadOnlySqlTransaction
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from clerk_integration.log_context import begin_log_context

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
POOL_TIMEOUT_SECONDS = 3.0
"""The time that a query waits for a connection before it counts as failed."""

RECONNECT_SECONDS = 10.0
"""Time after which the pool starts again with short pauses between its attempts to connect."""

QUERIES = "The database is down or read-only, and the worker waits for it"
LISTENER = "The worker cannot listen for new jobs, so it polls"

SIDE_TASKS = ("update_heartbeats", "deferrer", "poll_jobs_to_abort", "listener")
"""Names of Procrastinate's tasks that a worker cancels when it stops."""

OUTAGES = (OperationalError, InterfaceError, ReadOnlySqlTransaction)

Result = TypeVar("Result")


class WorkerConnector(PsycopgConnector):
    """A connection pool that repeats its queries while the database is down or read-only.

    Procrastinate's own worker exits when one of its queries fails, often with exit status 0. A supervisor
    does not treat exit status 0 as a failure.

    Each query commits by itself. A process that is stopped between a query and its commit would otherwise
    keep the lock of its worker's row, and no new worker could start: each first deletes stalled workers.
    """

    def __init__(self, **pool_arguments: Any) -> None:
        super().__init__(
            timeout=POOL_TIMEOUT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            configure=_set_autocommit,
            **pool_arguments,
        )
        self.is_stopping = False
        self._outages: set[str] = set()
        self.recovered_at = 0.0

    async def open_async(self, pool: AsyncConnectionPool | None = None) -> None:
        """Open the pool; wait until the database answers."""
        while True:
            try:
                await super().open_async(pool)
            except PoolTimeout as error:
                self._async_pool = None  # the failed pool is closed
                await self._wait(error, QUERIES)
            else:
                return

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        """Execute a query; repeat the query during an outage."""
        await self._repeat(lambda: super(WorkerConnector, self).execute_query_async(query, **arguments))

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        """Return the row of a query; repeat the query during an outage."""
        return await self._repeat(
            lambda: super(WorkerConnector, self).execute_query_one_async(query, **arguments)
        )

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        """Return all rows of a query; repeat the query during an outage."""
        return await self._repeat(
            lambda: super(WorkerConnector, self).execute_query_all_async(query, **arguments)
        )

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Wake the worker when jobs arrive; listen again after an outage."""
        await self._repeat(
            lambda: super(WorkerConnector, self).listen_notify(
                on_notification=on_notification, channels=channels
            ),
            reports=LISTENER,
        )

    async def _repeat(self, call: Callable[[], Awaitable[Result]], reports: str = QUERIES) -> Result:
        while True:
            started = time.monotonic()
            try:
                result = await call()
            except ConnectorException as error:
                if not isinstance(error.__cause__, OUTAGES):
                    raise
                if started < self.recovered_at:  # it waited through an outage that has ended
                    continue
                await self._wait(error.__cause__, reports)
            else:
                if reports in self._outages:
                    self._outages.clear()
                    self.recovered_at = time.monotonic()
                    logger.warning("The database works again")
                return result

    async def _wait(self, error: BaseException, reports: str) -> None:
        """Log an outage one time, then wait to try again; raise CommandError if the worker is stopping."""
        task = asyncio.current_task()
        if self.is_stopping and not (task and task.get_name() in SIDE_TASKS):
            raise CommandError(
                "The worker stopped while the database was down; other workers take over its jobs."
            ) from error
        if reports not in self._outages:
            self._outages.add(reports)
            logger.error("%s: %s", reports, " ".join(str(error).split()))
        await asyncio.sleep(RETRY_SECONDS)


async def _set_autocommit(connection: AsyncConnection) -> None:
    await connection.set_autocommit(True)


class Connector(DjangoConnector):
    """Gives Procrastinate Django's own connection, and in workers a pool of its own."""

    def get_worker_connector(self) -> WorkerConnector:
        """Return the connector of `manage.py procrastinate worker`; start the embedded PostgreSQL."""
        return WorkerConnector(kwargs=connector_params(self.alias))


class StoppableWorker(Worker):
    """A worker that stops waiting for the database when it is asked to stop."""

    _heartbeat_at = 0.0

    def stop(self) -> None:
        """Stop the worker after its running jobs have ended."""
        if isinstance(self.app.connector, WorkerConnector):
            self.app.connector.is_stopping = True
        super().stop()  # type: ignore[no-untyped-call]

    async def _process_job(self, context: JobContext) -> None:
        """Process a job; report in one line why its status could not be stored."""
        begin_log_context(job=context.job.id)
        # Procrastinate does not await this task, so asyncio would log any exception with a traceback.
        try:
            await self._report_alive()
            await super()._process_job(context)
        except CommandError as error:
            logger.warning("The status of job %s is not stored: %s", context.job.id, error)
        except ConnectorException as error:
            if not isinstance(error.__cause__, RaiseException):
                raise
            logger.warning("The status of job %s is not stored: it was taken over meanwhile", context.job.id)

    async def _report_alive(self) -> None:
        """Update the heartbeat at once after an outage, so that no rescue job takes this worker for dead."""
        connector = self.app.connector
        if (
            isinstance(connector, WorkerConnector)
            and connector.recovered_at > self._heartbeat_at
            and self.worker_id is not None
        ):
            await self.app.job_manager.update_heartbeat(self.worker_id)
            self._heartbeat_at = time.monotonic()


def install_connector(app: App) -> None:
    """Install our connector and worker in the app; called through PROCRASTINATE_ON_APP_READY."""
    # Not `app.replace_connector`, which restores the previous connector at the end of its block.
    app.connector = app.job_manager.connector = Connector()

    def new_worker(**options: Any) -> Worker:
        return StoppableWorker(app=app, **{**app.worker_defaults, **options})

    app._worker = new_worker  # type: ignore[method-assign]
