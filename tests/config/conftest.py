"""Projects whose embedded PostgreSQL the tests may start, damage and stop."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from config.embedded_postgres.account import server_account
from config.embedded_postgres.location import Location
from config.embedded_postgres.reaper import stop_server
from tests.config.processes import DatabaseUser


@pytest.fixture
def start_user() -> Iterator[Callable[..., DatabaseUser]]:
    """Start users of a project's database; each gets the passed environment variables and no others."""
    with ExitStack() as stack:

        def start(base_dir: Path, **env: str) -> DatabaseUser:
            user = DatabaseUser(base_dir, env)
            stack.callback(user.kill)
            return user

        yield start


def _stop_and_remove(location: Location) -> None:
    stop_server(location.root)
    shutil.rmtree(location.root, ignore_errors=True)
    shutil.rmtree(location.socket_dir, ignore_errors=True)


@pytest.fixture(scope="package")
def initialized_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base_dir = tmp_path_factory.mktemp("project")
    yield base_dir
    _stop_and_remove(Location.of(base_dir))


@pytest.fixture
def project(initialized_project: Path) -> Iterator[Path]:
    """A project whose cluster may exist already; no server is running before or after the test."""
    yield initialized_project
    stop_server(Location.of(initialized_project).root)


@pytest.fixture
def new_project(tmp_path: Path) -> Iterator[Path]:
    """A project that never had a database."""
    yield tmp_path
    _stop_and_remove(Location.of(tmp_path))


@pytest.fixture
def stranger(project: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the server's account that has nothing to do with PostgreSQL."""
    uid, gid = server_account(Location.of(project))
    as_root = os.geteuid() == 0
    with subprocess.Popen(
        ["sleep", "300"], user=uid if as_root else None, group=gid if as_root else None
    ) as process:
        yield process
        process.kill()
