"""Django's entry point to the backend: PostgreSQL's own, on a server that starts on first use."""

import shutil
from collections.abc import Iterable
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.client import DatabaseClient as PostgresClient

from config.embedded_postgres.installation import installed_tree
from config.embedded_postgres.server import EmbeddedPostgres, embedded_postgres


class DatabaseClient(PostgresClient):
    """`manage.py dbshell`."""

    connection: "DatabaseWrapper"

    def runshell(self, parameters: Iterable[str]) -> None:
        """Start the server if it does not run, then psql."""
        self.connection.server.ensure()
        super().runshell(parameters)

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        """Return psql's command line; the system's psql comes first, since it may have line editing."""
        (name, *args), env = super().settings_to_cmd_args_env(settings_dict, parameters)
        return [shutil.which(name) or str(installed_tree() / "bin" / name), *args], env


class DatabaseWrapper(base.DatabaseWrapper):
    """PostgreSQL in every respect; whoever asks how to connect gets a running server."""

    client_class = DatabaseClient

    @property
    def server(self) -> EmbeddedPostgres:
        """The server of the project named by PROJECT_DIR."""
        return embedded_postgres(self.settings_dict["PROJECT_DIR"])

    def get_connection_params(self) -> dict[str, Any]:
        """Return psycopg's parameters, the server running."""
        self.server.ensure()
        return super().get_connection_params()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect, once more after a restart if the server has been stopped under this process."""
        try:
            return super().get_new_connection(conn_params)
        except psycopg.OperationalError:
            self.server.revive()
            return super().get_new_connection(conn_params)
