"""Where the embedded PostgreSQL keeps its files, who owns them, and that nothing else is opened up."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from config.embedded_postgres.installation import PACKAGE, TREE, installed_tree
from config.embedded_postgres.location import Location
from tests.config.processes import DatabaseUser

StartUser = Callable[..., DatabaseUser]

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account for the server")


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
@pytest.mark.slow
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
