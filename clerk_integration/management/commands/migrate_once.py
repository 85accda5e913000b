"""`manage.py migrate_once`: `migrate` under a lock, for deployments that start several containers at once.

`migrate` takes no lock itself: two that run at once both try to create the same tables.
"""

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from clerk_integration.management.arguments import positive
from clerk_integration.management.base import SummaryCommand

LOCK = 7_214_305_518_846_090
"""The key of the advisory lock; the number is an arbitrary constant."""

PAUSE_SECONDS = 0.5

NEVER_END_THE_TRANSACTION = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"""
"""PostgreSQL 17 and newer have `transaction_timeout`."""


class Command(SummaryCommand):
    """Migrate while no other process does."""

    help = (
        "Apply all migrations, under a lock. If several processes start this command at once, one migrates, "
        "and the others wait for it and then find nothing to do."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the limit of the wait."""
        parser.add_argument(
            "--wait-seconds",
            type=positive,
            default=600,
            help="how long to wait for another process that is migrating (default 600)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Wait for the lock, then migrate."""
        with self._locked(options["wait_seconds"]):
            call_command("migrate", interactive=False, verbosity=options["verbosity"])

    @contextmanager
    def _locked(self, wait_seconds: int) -> Iterator[None]:
        """Hold the lock for the block, in a transaction of a connection of its own.

        The lock belongs to a transaction and not to the session, so that it also holds through PgBouncer in
        transaction mode. Raise CommandError if another process keeps it for longer than `wait_seconds`.
        """
        holder = connection.copy()
        deadline = time.monotonic() + wait_seconds
        try:
            while not _try_lock(holder):
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"Another process has been migrating this database for {wait_seconds} s. Nothing "
                        "was changed here. Read the output of that process, then run this command again."
                    )
                time.sleep(PAUSE_SECONDS)
            yield
        finally:
            holder.close()


def _try_lock(holder: BaseDatabaseWrapper) -> bool:
    """Take the lock until the transaction of `holder` ends; return False if another process has it.

    Do not wait for the lock inside PostgreSQL. A session that waits keeps a snapshot, and CREATE INDEX
    CONCURRENTLY in the migrating process waits until that snapshot ends, so both would wait for ever. For the
    same reason the transaction is READ COMMITTED, which keeps no snapshot between its statements.
    """
    holder.set_autocommit(False)
    with holder.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute(NEVER_END_THE_TRANSACTION)
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        is_locked = bool(cursor.fetchone()[0])
    if not is_locked:
        holder.rollback()
    return is_locked
