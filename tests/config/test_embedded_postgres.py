"""The embedded PostgreSQL, with real processes, signals and files."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from config.embedded_postgres.location import Location
from config.embedded_postgres.reaper import IDLE_SECONDS, is_locked, stop_server
from tests.config.processes import DatabaseUser, is_running, seconds_until_ended

StartUser = Callable[..., DatabaseUser]

POSTMASTER = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int"
STOPPED_SECONDS = 60


def use_once(project: Path, start_user: StartUser) -> None:
    """Start and stop the server, so that the project has a cluster."""
    user = start_user(project)
    user.read()
    user.leave()
    stop_server(Location.of(project).root)


def record_pid(project: Path, pid: int | str) -> None:
    """Write the files that a server leaves when the machine crashes, with `pid` as its process id."""
    location = Location.of(project)
    lines = (
        f"{pid}\n{location.data}\n1700000000\n5432\n{location.socket_dir}\n\n  1234567      1234\nready   \n"
    )
    for lock_file in (location.data / "postmaster.pid", location.socket_dir / ".s.PGSQL.5432.lock"):
        lock_file.write_text(lines)


def kill_server(project: Path, postmaster: int) -> None:
    """Kill the server and wait until its last backend has ended."""
    os.kill(postmaster, signal.SIGKILL)
    while is_locked(Location.of(project).root / "server"):
        time.sleep(0.01)


@pytest.mark.slow
def test_server_last_user_exits_is_stopped_and_keeps_its_data(project: Path, start_user: StartUser) -> None:
    user = start_user(project)
    postmaster = user.read()
    user.ask("CREATE TABLE kept AS SELECT 7 AS number")

    user.leave()

    seconds_until_ended(postmaster, at_most=STOPPED_SECONDS)
    user = start_user(project)
    assert user.read() != postmaster
    assert user.ask("SELECT number FROM kept") == [7]
    assert user.ask("DROP TABLE kept") is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_server_last_user_ended_by_a_signal_is_stopped_and_keeps_its_data(
    project: Path, start_user: StartUser, number: signal.Signals
) -> None:
    users = [start_user(project) for _ in range(3)]
    postmaster = users[0].read()
    users[0].ask("CREATE TABLE kept AS SELECT 7 AS number")
    for user in users:
        user.process.send_signal(number)
        user.process.wait()

    seconds_until_ended(postmaster, at_most=STOPPED_SECONDS)

    user = start_user(project)
    assert user.read() != postmaster
    assert user.ask("SELECT number FROM kept") == [7]
    assert user.ask("DROP TABLE kept") is None


@pytest.mark.slow
def test_server_next_user_comes_in_time_keeps_running(project: Path, start_user: StartUser) -> None:
    first = start_user(project)
    postmaster = first.read()
    first.kill()

    second = start_user(project)

    assert second.read() == postmaster
    assert second.ask(POSTMASTER) == [postmaster]


@pytest.mark.slow
def test_server_two_processes_at_once_share_one(new_project: Path, start_user: StartUser) -> None:
    users = [start_user(new_project) for _ in range(2)]

    first, second = [user.read() for user in users]

    assert first == second
    users[0].leave()
    assert users[1].ask("SELECT 1") == [1]


@pytest.mark.slow
def test_server_users_come_and_go_at_every_moment_of_its_end_always_answers(
    project: Path, start_user: StartUser
) -> None:
    for tenth in range(5, 12, 2):
        user = start_user(project)
        assert isinstance(user.read(), int)
        user.kill()
        time.sleep(IDLE_SECONDS - 1.0 + tenth / 10)


def test_server_forked_child_exits_keeps_running_for_its_parent(project: Path, start_user: StartUser) -> None:
    user = start_user(project)
    postmaster = user.read()

    assert user.ask("fork") == 0

    assert user.ask(POSTMASTER) == [postmaster]


@pytest.mark.slow
def test_server_forked_child_outlives_its_parent_is_stopped_after_the_child(
    project: Path, start_user: StartUser
) -> None:
    user = start_user(project)
    postmaster = user.read()
    child = user.ask("orphan")
    assert isinstance(child, int)

    user.process.kill()
    user.process.wait()

    seconds_until_ended(child, at_most=10)
    assert is_running(postmaster)
    seconds_until_ended(postmaster, at_most=STOPPED_SECONDS)


@pytest.mark.slow
def test_server_whose_reaper_was_killed_is_stopped_after_the_next_user(
    project: Path, start_user: StartUser
) -> None:
    user = start_user(project)
    postmaster = user.read()
    reapers = subprocess.run(
        ["pgrep", "-f", f"reaper {Location.of(project).root}"], capture_output=True, text=True, check=True
    )
    for pid in reapers.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
        seconds_until_ended(int(pid), at_most=5)
    user.kill()

    heir = start_user(project)
    assert heir.read() == postmaster
    heir.kill()

    seconds_until_ended(postmaster, at_most=STOPPED_SECONDS)


def test_server_ctrl_c_at_the_terminal_does_not_reach_it(project: Path, start_user: StartUser) -> None:
    postmaster = start_user(project).read()

    assert os.getsid(postmaster) != os.getsid(0)


def test_server_killed_under_its_user_comes_back_with_the_data(project: Path, start_user: StartUser) -> None:
    user = start_user(project)
    postmaster = user.read()
    user.ask("CREATE TABLE survivor AS SELECT 7 AS number")
    os.kill(postmaster, signal.SIGKILL)

    assert user.ask("SELECT number FROM survivor") == [7]

    assert user.ask("DROP TABLE survivor") is None
    assert user.ask(POSTMASTER) != [postmaster]


@pytest.mark.parametrize(
    "content",
    ["", pytest.param("-1", marks=pytest.mark.slow), pytest.param("9" * 20, marks=pytest.mark.slow)],
)
def test_server_meaningless_pid_file_does_not_prevent_starting(
    project: Path, start_user: StartUser, content: str
) -> None:
    user = start_user(project)
    kill_server(project, user.read())
    record_pid(project, content)

    assert user.ask("SELECT 1") == [1]


@pytest.mark.slow
def test_server_stale_pid_of_another_program_starts_and_leaves_that_program_alone(
    project: Path, start_user: StartUser, stranger: subprocess.Popen[bytes]
) -> None:
    use_once(project, start_user)
    record_pid(project, stranger.pid)

    user = start_user(project)
    postmaster = user.read()

    assert postmaster != stranger.pid
    user.leave()
    stop_server(Location.of(project).root)
    assert not is_running(postmaster)
    assert stranger.poll() is None


def test_server_pid_reused_by_another_program_while_in_use_leaves_that_program_alone(
    project: Path, start_user: StartUser, stranger: subprocess.Popen[bytes]
) -> None:
    user = start_user(project)
    kill_server(project, user.read())
    record_pid(project, stranger.pid)

    user.leave()

    stop_server(Location.of(project).root)
    assert stranger.poll() is None


@pytest.fixture
def foreign_postgres(project: Path, start_user: StartUser) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is called postgres, runs as the server's account and names its data directory."""
    use_once(project, start_user)
    location = Location.of(project)
    executable = location.root / "postgres"
    executable.symlink_to("/bin/sleep")
    owner = location.data.stat()
    with subprocess.Popen(
        [executable, "300"],
        user=owner.st_uid if os.geteuid() == 0 else None,
        group=owner.st_gid if os.geteuid() == 0 else None,
    ) as process:
        record_pid(project, process.pid)
        yield process
        process.kill()
    (location.data / "postmaster.pid").unlink()
    executable.unlink()


def test_server_of_another_installation_on_our_data_is_reported_and_left_alone(
    project: Path, start_user: StartUser, foreign_postgres: subprocess.Popen[bytes]
) -> None:
    user = start_user(project)
    answer = user.read()

    assert answer.startswith("EmbeddedPostgresError: The embedded PostgreSQL was not started")
    assert f"(PID {foreign_postgres.pid})" in answer
    user.leave()
    stop_server(Location.of(project).root)
    assert foreign_postgres.poll() is None


@pytest.mark.slow
def test_server_that_answers_no_query_is_reported_and_stopped_when_it_continues(
    project: Path, start_user: StartUser
) -> None:
    first = start_user(project)
    postmaster = first.read()
    os.kill(postmaster, signal.SIGSTOP)
    try:
        second = start_user(project)
        answer = second.read()
        assert answer.startswith("EmbeddedPostgresError: The embedded PostgreSQL is running")
        assert str(Location.of(project).log) in answer
        second.leave()
        first.leave()
        time.sleep(IDLE_SECONDS + 1)
    finally:
        os.kill(postmaster, signal.SIGCONT)

    seconds_until_ended(postmaster, at_most=STOPPED_SECONDS)
    assert isinstance(start_user(project).read(), int)


@pytest.mark.slow
def test_server_database_of_a_killed_test_run_is_dropped_and_a_living_one_kept(
    project: Path, start_user: StartUser, stranger: subprocess.Popen[bytes]
) -> None:
    user = start_user(project)
    user.read()
    kept, orphan = f"test_tenants_{stranger.pid}_gw0", "test_tenants_999999999"
    user.ask(f"CREATE DATABASE {kept}")
    user.ask(f"CREATE DATABASE {orphan}")
    user.leave()
    stop_server(Location.of(project).root)

    user = start_user(project)
    user.read()

    assert user.ask("SELECT datname FROM pg_database WHERE datname LIKE 'test%'") == [kept]
    user.ask(f"DROP DATABASE {kept}")


@pytest.mark.slow
def test_server_starter_killed_before_creating_the_database_gets_it_from_the_next_user(
    project: Path, start_user: StartUser
) -> None:
    starter = start_user(project)
    postmaster = starter.read()
    starter.kill()
    location = Location.of(project)
    with psycopg.connect(
        host=str(location.socket_dir),
        port=location.port,
        user=location.user,
        dbname="postgres",
        autocommit=True,
    ) as connection:
        connection.execute("DROP DATABASE tenants WITH (FORCE)")

    heir = start_user(project)

    assert heir.read() == postmaster
    assert heir.ask("SELECT current_database()") == ["tenants"]


def test_server_started_with_hostile_variables_has_the_settings_of_a_development_database(
    project: Path, start_user: StartUser
) -> None:
    hostile = {
        "PGHOST": "nowhere.invalid",
        "PGHOSTADDR": "127.0.0.1",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATABASE": "nothing",
        "PGDATA": "/nonexistent",
        "PGSERVICE": "no_such_service",
        "PGOPTIONS": "-c no_such_setting=1",
        "PGREQUIREAUTH": "scram-sha-256",
        "LC_ALL": "xx_XX.nonsense",
        "TZ": "Nowhere/Nowhere",
    }

    user = start_user(project, **hostile)

    assert isinstance(user.read(), int)
    assert user.ask("SELECT upper('é')") == ["É"]
    assert user.ask("SHOW server_encoding") == ["UTF8"]
    assert user.ask("SHOW fsync") == ["off"]
    assert user.ask("SHOW max_connections") == ["200"]
    assert user.ask("SHOW listen_addresses") == [""]
    assert user.ask("SELECT current_database()") == ["tenants"]
