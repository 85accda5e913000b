"""`migrate_once`, started by several processes at once."""

import os
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from clerk_integration.management.commands.migrate_once import LOCK
from tests.children import PROJECT
from tests.workers import locked_elsewhere

pytestmark = pytest.mark.django_db(transaction=True)

CREATES_AN_INDEX_CONCURRENTLY = "Applying tenants.0002_clerk_organizations... OK"


def migrate_at_once(url: str, processes: int) -> list[tuple[int, str]]:
    """Start the command in so many processes; return the exit code and output of each."""
    children = [
        subprocess.Popen(
            [sys.executable, "manage.py", "migrate_once", "--skip-checks"],
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        outputs = [child.communicate(timeout=120)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    return [(child.returncode, output) for child, output in zip(children, outputs, strict=True)]


@pytest.mark.slow
def test_migrate_once_by_three_processes_applies_each_migration_once(new_database: str) -> None:
    ended = migrate_at_once(new_database, 3)

    assert [code for code, _ in ended] == [0, 0, 0], ended
    assert sum(output.count(CREATES_AN_INDEX_CONCURRENTLY) for _, output in ended) == 1
    assert sum("No migrations to apply." in output for _, output in ended) == 2


def test_migrate_once_lock_held_for_too_long_changes_nothing() -> None:
    with (
        locked_elsewhere("SELECT 1 FROM pg_advisory_xact_lock(%s)", LOCK),
        pytest.raises(CommandError) as refusal,
    ):
        call_command("migrate_once", "--wait-seconds", "1")

    assert str(refusal.value) == (
        "Another process has been migrating this database for 1 s. Nothing was changed here. Read the "
        "output of that process, then run this command again."
    )
