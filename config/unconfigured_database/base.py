"""A database backend for commands that do not use the database. Every connection fails."""

from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base

UNCONFIGURED = (
    "DATABASE_URL is not set, so there is no database. Set it to a PostgreSQL server "
    "(postgres://USER:PASSWORD@HOST:PORT/NAME), or set DEBUG=true to develop on an embedded one."
)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's PostgreSQL backend, which raises ImproperlyConfigured instead of connecting."""

    def get_connection_params(self) -> NoReturn:
        """Raise ImproperlyConfigured."""
        raise ImproperlyConfigured(UNCONFIGURED)

    def get_new_connection(self, conn_params: Any) -> NoReturn:
        """Raise ImproperlyConfigured."""
        raise ImproperlyConfigured(UNCONFIGURED)
