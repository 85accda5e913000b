"""Create and start the PostgreSQL cluster of one project."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from config.embedded_postgres.account import run_as_server, server_account
from config.embedded_postgres.databases import drop_orphaned_databases
from config.embedded_postgres.installation import runnable_tree
from config.embedded_postgres.location import SOCKET_NAME, EmbeddedPostgresError, Location
from config.embedded_postgres.reaper import open_lock, recorded_server, take_lock

START_SECONDS = 60
LOG_TAIL_CHARACTERS = 2000

# Suitable for development only. The data survives a crash of any process, but a crash of the machine can
# corrupt the data. The server is several times faster.
SERVER_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "200",
}

# Sort by code point and map case by Unicode, independently of the locales of the system.
INITDB_OPTIONS = (
    "--no-sync",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


def start_server(location: Location) -> None:
    """Start the server, and create its cluster first if there is none. The caller holds the start lock.

    Raise EmbeddedPostgresError with the end of the server's log.
    """
    tree = runnable_tree(location)
    location.log.write_bytes(b"")
    if not location.data.exists():
        _initialize(location, tree)
    _forget_dead_server(location)
    settings = {**SERVER_SETTINGS, "unix_socket_directories": location.socket_dir, "port": location.port}
    options = shlex.join(argument for key, value in settings.items() for argument in ("-c", f"{key}={value}"))
    start = ["start", "-w", "-t", str(START_SECONDS), "-D", str(location.data), "-o", options]
    lock = open_lock(location.root / "server")
    try:
        take_lock(lock)
        # The server inherits the descriptor, and thereby the lock.
        _run(location, [tree / "bin" / "pg_ctl", *start], pass_fds=[lock])
    finally:
        os.close(lock)
    drop_orphaned_databases(location)


def _initialize(location: Location, tree: Path) -> None:
    # Rename the cluster when it is complete, so that a killed process never leaves half a cluster.
    for leftover in location.root.glob("initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix="initdb-", dir=location.root))
    shutil.chown(scratch, *server_account(location))
    _run(location, [tree / "bin" / "initdb", *INITDB_OPTIONS, f"--username={location.user}", "-D", scratch])
    scratch.rename(location.data)


def _forget_dead_server(location: Location) -> None:
    # PostgreSQL refuses to start while any process of its account has the recorded id. The refusal is right
    # only if that process is a PostgreSQL server, which was then started by hand on this data.
    if recorded_server(location.root) is None:
        (location.data / "postmaster.pid").unlink(missing_ok=True)
        (location.socket_dir / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _run(location: Location, command: Sequence[str | Path], *, pass_fds: Sequence[int] = ()) -> None:
    # Write the output to a file. A pipe would stay open, because the server inherits it.
    with location.log.open("ab") as log:
        try:
            status = run_as_server(location, command, output=log, pass_fds=pass_fds)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The embedded PostgreSQL was not started: {command[0]} cannot be run: {error}"
            ) from error
    if status:
        tail = location.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:].strip()
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL was not started: {Path(command[0]).name} failed with exit status "
            f"{status}. The end of {location.log}:\n{tail}"
        )
