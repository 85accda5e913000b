"""Django's entry point to the backend; commands that use no database work with it."""

from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base

UNCONFIGURED = (
    "DATABASE_URL is not set, so there is no database. Set it to a PostgreSQL server "
    "(postgres://USER:PASSWORD@HOST:PORT/NAME), or set DEBUG=true to develop on an embedded one."
)


class DatabaseWrapper(base.DatabaseWrapper):
    """PostgreSQL as far as SQL dialect goes; ImproperlyConfigured as soon as it is used."""

    def get_connection_params(self) -> NoReturn:
        """Raise ImproperlyConfigured: there is nothing to connect to."""
        raise ImproperlyConfigured(UNCONFIGURED)

    def get_new_connection(self, conn_params: Any) -> NoReturn:
        """Raise ImproperlyConfigured: there is nothing to connect to."""
        raise ImproperlyConfigured(UNCONFIGURED)
