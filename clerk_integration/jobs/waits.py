"""How long transactions that others wait for may stand still, and wait for each other."""

from django.db import connection

IDLE_TIMEOUT = "10s"
"""After this PostgreSQL ends the transaction of a process that has stopped in the middle of it."""

LOCK_TIMEOUT = "15s"
"""Longer than IDLE_TIMEOUT, so that whoever waits for a stopped process outlasts it."""

LIMITS = (
    f"set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT}', true),"
    f" set_config('lock_timeout', '{LOCK_TIMEOUT}', true)"
)
"""For the select list of a statement that locks something for the rest of its transaction."""


def limit_waits() -> None:
    """Let no lock of the current transaction outlive a worker that stops. To be its first statement.

    Row locks of a stopped worker would otherwise be held for as long as its process exists.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {LIMITS}")
