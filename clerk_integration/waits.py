"""How long the transactions of workers may stand still, and wait for each other."""

from django.db import connection

IDLE_TIMEOUT = "10s"
"""After this PostgreSQL ends the transaction of a worker that has stopped in the middle of it."""

LOCK_TIMEOUT = "15s"
"""Longer than IDLE_TIMEOUT, so that whoever waits for a stopped worker outlasts it."""

_LIMIT_WAITS = """
SELECT set_config('idle_in_transaction_session_timeout', %s, true), set_config('lock_timeout', %s, true)
"""


def limit_waits() -> None:
    """Let no lock of the current transaction outlive a worker that stops. To be its first statement.

    Row locks of a stopped worker would otherwise be held for as long as its process exists.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LIMIT_WAITS, [IDLE_TIMEOUT, LOCK_TIMEOUT])
