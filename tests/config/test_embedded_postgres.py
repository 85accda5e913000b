"""The embedded PostgreSQL, with real processes, signals and files."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from config.embedded_postgres.location import Location
from tests.config.processes import DatabaseUser, is_running

StartUser = Callable[..., DatabaseUser]


def use_once(project: Path, start_user: StartUser) -> None:
    """Start and stop the server, so that the project has a cluster."""
    user = start_user(project)
    user.read()
    user.leave()


def record_pid(project: Path, pid: int | str) -> None:
    """Leave the files that a server leaves when the machine goes down, naming `pid`."""
    location = Location.of(project)
    lines = (
        f"{pid}\n{location.data}\n1700000000\n5432\n{location.socket_dir}\n\n  1234567      1234\nready   \n"
    )
    for lock_file in (location.data / "postmaster.pid", location.socket_dir / ".s.PGSQL.5432.lock"):
        lock_file.write_text(lines)


def test_server_first_use_starts_it_and_last_exit_stops_it(project: Path, start_user: StartUser) -> None:
    user = start_user(project)
    postmaster = user.read()
    assert is_running(postmaster)

    user.leave()

    assert not is_running(postmaster)


def test_server_next_start_keeps_the_data(project: Path, start_user: StartUser) -> None:
    user = start_user(project)
    user.read()
    user.ask("CREATE TABLE kept AS SELECT 7 AS number")
    user.leave()

    user = start_user(project)
    user.read()

    assert user.ask("SELECT number FROM kept") == [7]
    assert user.ask("DROP TABLE kept") is None


def test_server_two_processes_at_once_share_one(new_project: Path, start_user: StartUser) -> None:
    users = [start_user(new_project) for _ in range(2)]

    first, second = [user.read() for user in users]

    assert first == second
    users[0].leave()
    assert users[1].ask("SELECT 1") == [1]
    users[1].leave()
    assert not is_running(first)


def test_server_first_user_killed_is_stopped_by_the_second(project: Path, start_user: StartUser) -> None:
    first = start_user(project)
    postmaster = first.read()
    second = start_user(project)
    assert second.read() == postmaster

    first.kill()
    assert second.ask("SELECT 1") == [1]
    second.leave()

    assert not is_running(postmaster)


def test_server_all_users_killed_is_taken_over_by_the_next(project: Path, start_user: StartUser) -> None:
    users = [start_user(project) for _ in range(2)]
    postmasters = {user.read() for user in users}
    for user in users:
        user.kill()
    assert all(is_running(pid) for pid in postmasters)

    heir = start_user(project)
    assert {heir.read()} == postmasters
    heir.leave()

    assert not any(is_running(pid) for pid in postmasters)


def test_server_forked_child_exits_and_its_parent_goes_on(project: Path, start_user: StartUser) -> None:
    user = start_user(project)
    postmaster = user.read()

    assert user.ask("fork") == 0

    assert user.ask("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int") == [postmaster]
    user.leave()
    assert not is_running(postmaster)


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
    assert user.ask("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int") != [postmaster]
    user.leave()


@pytest.mark.parametrize("content", ["", "-1", "99999999999999999999"])
def test_server_meaningless_pid_file_does_not_prevent_starting(
    project: Path, start_user: StartUser, content: str
) -> None:
    user = start_user(project)
    os.kill(user.read(), signal.SIGKILL)
    record_pid(project, content)

    assert user.ask("SELECT 1") == [1]


def test_server_stale_pid_of_a_stranger_starts_and_spares_it(
    project: Path, start_user: StartUser, stranger: subprocess.Popen[bytes]
) -> None:
    use_once(project, start_user)
    record_pid(project, stranger.pid)

    user = start_user(project)
    postmaster = user.read()

    assert postmaster != stranger.pid
    user.leave()
    assert not is_running(postmaster)
    assert stranger.poll() is None


def test_server_pid_reused_while_in_use_is_not_stopped(
    project: Path, start_user: StartUser, stranger: subprocess.Popen[bytes]
) -> None:
    user = start_user(project)
    os.kill(user.read(), signal.SIGKILL)
    record_pid(project, stranger.pid)

    user.leave()

    assert stranger.poll() is None


@pytest.fixture
def foreign_postgres(project: Path, start_user: StartUser) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is called postgres, runs as the server's account and names its data directory."""
    use_once(project, start_user)
    data = Location.of(project).data
    command = ["postgres", "-c", "echo; read line", "-D", str(data)]
    owner = data.stat()
    with subprocess.Popen(
        command,
        executable="/bin/sh",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=owner.st_uid if os.geteuid() == 0 else None,
        group=owner.st_gid if os.geteuid() == 0 else None,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        record_pid(project, process.pid)
        yield process
        process.kill()
        (data / "postmaster.pid").unlink()


def test_server_of_another_installation_on_our_data_is_reported_and_spared(
    project: Path, start_user: StartUser, foreign_postgres: subprocess.Popen[bytes]
) -> None:
    answer = start_user(project).read()

    assert answer.startswith("EmbeddedPostgresError")
    assert str(foreign_postgres.pid) in answer
    assert "not the one of this project" in answer
    assert "left alone" in answer
    assert foreign_postgres.poll() is None


@pytest.mark.slow
def test_server_that_answers_no_query_is_neither_trusted_nor_stopped(
    project: Path, start_user: StartUser
) -> None:
    first = start_user(project)
    postmaster = first.read()
    os.kill(postmaster, signal.SIGSTOP)
    try:
        second = start_user(project)
        answer = second.read()
        assert answer.startswith("EmbeddedPostgresError")
        assert str(postmaster) in answer
        second.leave()
        first.leave()
    finally:
        os.kill(postmaster, signal.SIGCONT)

    # No signal was waiting for it either.
    assert start_user(project).read() == postmaster


def test_server_database_of_a_killed_test_run_is_dropped_and_a_living_one_kept(
    project: Path, start_user: StartUser, stranger: subprocess.Popen[bytes]
) -> None:
    user = start_user(project)
    user.read()
    kept, orphan = f"test_tenants_{stranger.pid}_gw0", "test_tenants_999999999"
    user.ask(f"CREATE DATABASE {kept}")
    user.ask(f"CREATE DATABASE {orphan}")
    user.leave()

    user = start_user(project)
    user.read()

    assert user.ask("SELECT datname FROM pg_database WHERE datname LIKE 'test%'") == [kept]
    user.ask(f"DROP DATABASE {kept}")


def test_server_whose_starter_was_killed_before_making_the_database_gets_it_from_the_next(
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
    heir.leave()


def test_server_libpq_and_locale_variables_of_the_user_change_nothing(
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
    user.leave()


def test_server_settings_are_those_of_a_development_database(project: Path, start_user: StartUser) -> None:
    user = start_user(project)
    user.read()

    assert user.ask("SHOW fsync") == ["off"]
    assert user.ask("SHOW max_connections") == ["200"]
    assert user.ask("SHOW listen_addresses") == [""]
    assert user.ask("SELECT current_database()") == ["tenants"]
