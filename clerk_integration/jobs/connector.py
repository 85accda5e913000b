"""Procrastinate's connection to the queue, made to survive a restart of the database."""

import asyncio
import logging
from collections.abc import Iterable

from procrastinate import App
from procrastinate.connector import Notify
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.psycopg_connector import PsycopgConnector

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


class WorkerConnector(PsycopgConnector):
    """A connection pool whose listener tries again while the database is down.

    Procrastinate's own listener gives up at the first refused connection, and the worker ends with exit
    status 0, which no supervisor takes for a failure.
    """

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Wake the worker when jobs arrive; while the database is down, try again every second."""
        while True:
            try:
                await super().listen_notify(on_notification=on_notification, channels=channels)
            except ConnectorException as error:
                logger.warning("The worker cannot listen for new jobs, so it polls: %s", error.__cause__)
                await asyncio.sleep(RECONNECT_SECONDS)


class Connector(DjangoConnector):
    """Django's own connection, except in workers."""

    def get_worker_connector(self) -> WorkerConnector:
        """Return the connector of `manage.py procrastinate worker`; start the embedded PostgreSQL."""
        return WorkerConnector(kwargs=connector_params(self.alias))


def install_connector(app: App) -> None:
    """Give the app our connector; called through PROCRASTINATE_ON_APP_READY."""
    # `app.replace_connector` does the same, for the duration of a block.
    app.connector = app.job_manager.connector = Connector()
