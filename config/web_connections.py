"""The web server's database connections: no statement may occupy a thread for long."""

from functools import partial
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from psycopg.errors import OperationalError, _WaitTimeout

STATEMENT_TIMEOUT_SECONDS = 15

ANSWER_SECONDS = STATEMENT_TIMEOUT_SECONDS + 5.0
"""How long a thread waits for the answer of a server that does not end the statement itself."""


def limit_statements() -> None:
    """End every statement of this process after STATEMENT_TIMEOUT_SECONDS, or ANSWER_SECONDS at the latest.

    Connections with `disable_server_side_cursors` get the second limit only. Django requires that option
    behind PgBouncer in transaction mode, and PgBouncer would pass the first limit on to other clients.
    """
    connection_created.connect(_limit, dispatch_uid="config.web_connections")


def _limit(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    limit_waiting(connection.connection, ANSWER_SECONDS)
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'")


def limit_waiting(session: psycopg.Connection[Any], seconds: float) -> None:
    """Let the session raise OperationalError, and close, if the server does not answer within `seconds`.

    A server that is frozen does not end statements, and its machine still answers the keepalives of TCP.
    """
    # A connection of a pool arrives here at each use.
    if "wait" not in vars(session):
        vars(session)["wait"] = partial(_wait, session, seconds)


def _wait(session: psycopg.Connection[Any], seconds: float, *args: Any, **kwargs: Any) -> Any:
    try:
        return type(session).wait(session, *args, **{"timeout": seconds, **kwargs})
    except _WaitTimeout:
        session.pgconn.finish()
        raise OperationalError(
            f"The database has not answered for {seconds:g} s. The connection was closed."
        ) from None
