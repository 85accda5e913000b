"""Limits on how long a transaction may be idle, and how long it may wait for a lock or for the disk."""

from django.db import connection

IDLE_TIMEOUT = "10s"
"""Idle time after which PostgreSQL ends the transaction, for example of a stopped process."""

LOCK_TIMEOUT = "15s"
"""Longer than IDLE_TIMEOUT, so that a stopped process loses its locks before a waiting transaction fails."""

SET_TIMEOUTS = (
    f"set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT}', true),"
    f" set_config('lock_timeout', '{LOCK_TIMEOUT}', true)"
)
"""For the select list of a statement that takes locks until the end of its transaction."""


DO_NOT_AWAIT_DISK = "set_config('synchronous_commit', 'off', true)"
"""Lets a transaction commit before PostgreSQL has written it to disk.

If the database server crashes, the transactions of the last second may be lost. Use it only for a transaction
that is then repeated, with the same effect.
"""


def set_timeouts_and_lock(name: str) -> bool:
    """Set the limits, and take the lock `name` until the transaction ends; must be its first statement.

    Return False if another transaction holds the lock.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_xact_lock(hashtext(%s)), {SET_TIMEOUTS}", [name])
        return bool(cursor.fetchone()[0])


def begin_repeatable() -> None:
    """Set the limits, and do not wait for the disk; must be the first statement of a transaction.

    Without the limits, a stopped worker would hold its row locks until its process ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {SET_TIMEOUTS}, {DO_NOT_AWAIT_DISK}")
