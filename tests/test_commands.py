"""Commands whose database is missing, not migrated or locked: one line, exit code 1, nothing done."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests.children import PROJECT
from tests.commands import manage
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)

ARGUMENTS = {
    "import_tenants": ["tenants.csv"],
    "link_tenants": ["links.csv"],
    "migrate_tenants_to_clerk": [],
    "process_clerk_webhooks": [],
    "purge_webhook_deliveries": [],
    "restore_tenants": ["1"],
    "send_alerts": [],
    "send_test_webhook": ["organization.created"],
    "sync_from_clerk": [],
    "sync_runs": [],
    "unlink_tenants": ["1"],
}

WITHOUT_DATABASE = {"check_clerk", "clerk_sandbox", "demo", "migrate_once", "procrastinate"}
"""Commands that use no database, start their own, make its tables, or wait for it."""


@pytest.fixture(scope="module")
def empty_database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The name of a database without tables."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        name = f"{connection.settings_dict['NAME']}_empty"
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    yield name
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name}")
    connection.close()  # Later tests may not use a database.


@pytest.fixture
def unmigrated(empty_database: str) -> Iterator[None]:
    """Let this process use a database without tables."""
    migrated = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = empty_database
    yield
    connection.close()
    connection.settings_dict["NAME"] = migrated


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


def test_commands_of_this_project_are_all_listed_here() -> None:
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
def test_command_on_a_database_without_tables_exits_with_1_and_one_line(sandbox: SandboxControl) -> None:
    finished = manage("migrate_tenants_to_clerk", "--skip-checks")

    assert (finished.code, finished.errors.count("\n")) == (1, 1)
    assert finished.errors.startswith("CommandError: The database is not migrated.")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("postgres://me@127.0.0.1:9/none", "Connection refused", marks=pytest.mark.slow),
        ("", "DATABASE_URL is not set"),
    ],
)
def test_command_that_cannot_reach_its_database_exits_with_1_and_one_line(url: str, reason: str) -> None:
    code, errors = in_a_process("process_clerk_webhooks", DATABASE_URL=url, DEBUG="false")

    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith("CommandError: The database cannot be reached: ")
    assert reason in errors
    assert errors.endswith(" Nothing was changed.\n")


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
        # A lock held by another session fails the command at the time that the test chooses.
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_after_a_signal_before_its_work_ends_with_a_json_object(
    tmp_path: Path, number: signal.Signals
) -> None:
    pipe = tmp_path / "links.csv"
    os.mkfifo(pipe)

    def send_signal() -> None:
        with pipe.open("w"):  # Waits until the command reads the file.
            os.kill(os.getpid(), number)

    sender = Thread(target=send_signal)
    sender.start()
    finished = manage("link_tenants", str(pipe), "--json", "--skip-checks")
    sender.join()

    [line] = finished.output.splitlines()
    assert json.loads(line)["error"].startswith("Interrupted. What was committed before is kept.")
    assert (finished.code, finished.errors) == (130, f"CommandError: {json.loads(line)['error']}\n")
