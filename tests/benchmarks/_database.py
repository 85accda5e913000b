"""A database of the benchmarks' own: on the server that tests use too, or on one with safe settings."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from config.embedded_postgres.account import run_as_server, server_account
from config.embedded_postgres.cluster import INITDB_OPTIONS
from config.embedded_postgres.installation import runnable_tree
from config.embedded_postgres.location import Location, make_private_dir

DURABLE_SETTINGS = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


@contextmanager
def own_database(*, durable: bool) -> Iterator[None]:
    """Migrate a new database under a name of its own, and drop it at the end.

    | durable | server                             | fsync | synchronous_commit |
    | ------- | ---------------------------------- | ----- | ------------------ |
    | no      | the embedded one, or DATABASE_URL  | off   | off                |
    | yes     | a new one in a temporary directory | on    | on                 |

    With DATABASE_URL, the server's own configuration decides on fsync.
    """
    if durable:
        with _durable_server(), _new_database():
            yield
        return
    with _new_database():
        with connection.cursor() as cursor:
            name = connection.ops.quote_name(connection.settings_dict["NAME"])
            cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        connection.close()
        yield


@contextmanager
def _new_database() -> Iterator[None]:
    before = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = f"{before}_benchmarks_{os.getpid()}"
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)


@contextmanager
def _durable_server() -> Iterator[None]:
    """Connect this process to a new server with DURABLE_SETTINGS; stop and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="clerk-tenants-durable-") as directory:
        location = Location(root=Path(directory), socket_dir=Path(directory) / "socket")
        location.root.chmod(0o711)  # The account of the server must be able to enter it.
        for path in (location.data, location.socket_dir):
            make_private_dir(path, owner=server_account(location)[0])
        _run(location, "initdb", *INITDB_OPTIONS, f"--username={location.user}", "-D", str(location.data))
        settings = {
            **DURABLE_SETTINGS,
            "listen_addresses": "",
            "max_connections": "200",
            "unix_socket_directories": location.socket_dir,
        }
        options = shlex.join(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
        _run(location, "pg_ctl", "start", "-w", "-D", str(location.data), "-o", options)
        try:
            with _connected_to(location):
                yield
        finally:
            _run(location, "pg_ctl", "stop", "-m", "immediate", "-D", str(location.data))


@contextmanager
def _connected_to(location: Location) -> Iterator[None]:
    connection.close()
    where = {"HOST": str(location.socket_dir), "PORT": location.port, "USER": location.user}
    before = {key: connection.settings_dict[key] for key in where}
    connection.settings_dict.update(where)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


def _run(location: Location, program: str, *arguments: str) -> None:
    executable = runnable_tree(location) / "bin" / program
    status = run_as_server(location, [executable, *arguments], output=subprocess.DEVNULL)
    if status:
        raise RuntimeError(f"{program} of the durable server failed with exit status {status}.")
