"""Our commands where the database is not what it should be: one line, exit code 1, nothing begun."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.db import connection

from tests.children import PROJECT, child_environment
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)

EMPTY = "tests_unmigrated"

ARGUMENTS = {
    "import_tenants": ["tenants.csv"],
    "link_tenants": ["links.csv"],
    "migrate_tenants_to_clerk": [],
    "process_clerk_webhooks": [],
    "purge_webhook_deliveries": [],
    "send_test_webhook": ["organization.created"],
    "sync_from_clerk": [],
}

WITHOUT_DATABASE = {"check_clerk", "clerk_sandbox", "demo"}
"""They use none, or bring their own."""


@pytest.fixture
def unmigrated() -> Iterator[None]:
    """The database of this process is one without tables."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {EMPTY}")
        cursor.execute(f"CREATE DATABASE {EMPTY}")
    migrated = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = EMPTY
    yield
    connection.close()
    connection.settings_dict["NAME"] = migrated
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {EMPTY}")


def in_a_process(command: str, **env: str) -> tuple[int, str]:
    """Run a command without system checks; return its exit code and what it wrote to stderr."""
    run = subprocess.run(
        [sys.executable, "manage.py", command, "--skip-checks", *ARGUMENTS[command]],
        cwd=PROJECT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stderr


def test_commands_that_use_the_database_are_all_tried_here() -> None:
    ours = {name for name, app in get_commands().items() if app in ("clerk_integration", "tenants")}

    assert ours == set(ARGUMENTS) | WITHOUT_DATABASE


@pytest.mark.usefixtures("unmigrated")
@pytest.mark.parametrize("command", ARGUMENTS)
def test_command_on_a_database_without_tables_says_to_migrate(command: str) -> None:
    with pytest.raises(CommandError) as refusal:
        call_command(command, *ARGUMENTS[command])

    assert str(refusal.value) == (
        "The database is not migrated. Nothing was changed; run `manage.py migrate`."
    )


@pytest.mark.usefixtures("unmigrated")
def test_command_without_migrations_exits_with_1_and_one_line(sandbox: SandboxControl) -> None:
    code, said = in_a_process("migrate_tenants_to_clerk", **child_environment(sandbox.description))

    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("CommandError: The database is not migrated.")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgres://me@127.0.0.1:9/none", "Connection refused"),
        ("", "DATABASE_URL is not set"),
    ],
)
def test_command_that_cannot_reach_its_database_exits_with_1_and_one_line(url: str, reason: str) -> None:
    code, said = in_a_process("process_clerk_webhooks", DATABASE_URL=url, DEBUG="false")

    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("CommandError: The database cannot be reached: ")
    assert reason in said
    assert said.endswith(" Nothing was changed.\n")


@pytest.mark.parametrize(
    ("table", "command"),
    [("tenants", "import_tenants"), ("procrastinate_jobs", "sync_from_clerk")],
    ids=["in a statement", "in the queue"],
)
def test_command_whose_database_fails_later_says_why_in_one_line(
    sandbox: SandboxControl, tmp_path: Path, table: str, command: str
) -> None:
    file = tmp_path / "tenants.csv"
    file.write_text("external_id,name\nx,X\n")
    other = connection.copy()
    with other.cursor() as locking:
        # A lock that somebody else holds is the one failure of a database that waits for us.
        locking.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
    try:
        with pytest.raises(CommandError) as failure:
            call_command(command, "--enqueue" if command == "sync_from_clerk" else str(file))
    finally:
        other.close()
        connection.close()

    assert str(failure.value).startswith("The database failed: canceling statement due to lock timeout ")
    assert str(failure.value).endswith(". What was committed before is kept.")
