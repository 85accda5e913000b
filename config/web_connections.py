"""The web server's database connections: no statement may occupy a thread for long."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

STATEMENT_TIMEOUT_SECONDS = 15


def limit_statements() -> None:
    """End every statement of this process after STATEMENT_TIMEOUT_SECONDS.

    Connections with `disable_server_side_cursors` get no limit. Django requires that option behind PgBouncer
    in transaction mode, and PgBouncer would pass the limit on to other clients.
    """
    connection_created.connect(_set_statement_timeout, dispatch_uid="config.web_connections")


def _set_statement_timeout(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'")
