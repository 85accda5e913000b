"""Django's database backend: the PostgreSQL backend, on a server that starts on first use."""

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
        """Start the server if it is not running, then start psql."""
        self.connection.server.ensure()
        super().runshell(parameters)

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        """Return the command line of psql. Prefer an installed psql, because it may have line editing."""
        (name, *args), env = super().settings_to_cmd_args_env(settings_dict, parameters)
        return [shutil.which(name) or str(installed_tree() / "bin" / name), *args], env


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's PostgreSQL backend, which starts the server before it connects."""

    client_class = DatabaseClient

    @property
    def server(self) -> EmbeddedPostgres:
        """The server of the project in PROJECT_DIR."""
        return embedded_postgres(self.settings_dict["PROJECT_DIR"])

    def get_connection_params(self) -> dict[str, Any]:
        """Start the server if it is not running, and return psycopg's parameters."""
        self.server.ensure()
        return super().get_connection_params()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect; if that fails, make sure that the server is running and connect once more."""
        try:
            return super().get_new_connection(conn_params)
        except psycopg.OperationalError:
            self.server.restart()
            return super().get_new_connection(conn_params)
