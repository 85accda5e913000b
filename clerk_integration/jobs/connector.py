"""How a worker reaches the queue: as Procrastinate does, and it survives a restart of the database."""

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
    """A pool whose queries wait for a database that is away, 30 s at most, and a patient listener.

    Procrastinate's own listener gives up at the first refused connection, upon which the worker ends
    with exit status 0: no supervisor would take that for a failure.
    """

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Wake the worker when jobs arrive; without the database, try again every second."""
        while True:
            try:
                await super().listen_notify(on_notification=on_notification, channels=channels)
            except ConnectorException as error:
                logger.warning("The worker does not hear of new jobs and polls: %s", error.__cause__)
                await asyncio.sleep(RECONNECT_SECONDS)


class Connector(DjangoConnector):
    """Django's connection for everybody but workers."""

    def get_worker_connector(self) -> WorkerConnector:
        """Return what `manage.py procrastinate worker` works with; starts the embedded PostgreSQL."""
        return WorkerConnector(kwargs=connector_params(self.alias))


def use_patient_workers(app: App) -> None:
    """Give the app our connector (PROCRASTINATE_ON_APP_READY)."""
    # As `app.replace_connector` does for the length of a block.
    app.connector = app.job_manager.connector = Connector()
