"""Making, starting and stopping the PostgreSQL cluster of one project; the caller holds the lock."""

import logging
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from config.embedded_postgres.account import Account
from config.embedded_postgres.databases import answers, create_missing_database, drop_orphaned_databases
from config.embedded_postgres.exceptions import EmbeddedPostgresError
from config.embedded_postgres.installation import MAJOR_VERSION, copied_tree, installed_tree, runnable_tree
from config.embedded_postgres.location import SOCKET_NAME, Location, make_private_dir
from config.embedded_postgres.postmaster import Postmaster, find_postmaster

logger = logging.getLogger(__name__)

START_SECONDS = 60
# The backends of a killed server hold its shared memory until they notice.
ORPHANS_SECONDS = 4
ANSWER_SECONDS = 30
STOP_SECONDS = 30

# Development data: it survives the death of any process, but not of the machine, and is several
# times faster for it.
SERVER_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "200",
}

# Sorted by code point and cased by Unicode, whatever locales the system has.
INITDB_OPTIONS = (
    "--no-sync",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


def running_postmaster(location: Location) -> Postmaster | None:
    """Return the verified process of the server, None when it does not run."""
    trees = (installed_tree(), copied_tree(location))
    executables = {tree / "bin" / "postgres" for tree in trees}
    return find_postmaster(location, Account.for_data(location.data), executables)


def ensure_running(location: Location) -> None:
    """Leave a server running on `location` that answers queries and has our database.

    Writes under the location's directories only. Raises EmbeddedPostgresError with the end of the log.
    """
    account = Account.for_data(location.data)
    make_private_dir(location.socket_dir, owner=account.uid)
    postmaster = running_postmaster(location)
    if postmaster is None:
        # A server may answer although its process is out of sight, as from another container.
        if not answers(location):
            _start(location, account)
    elif not postmaster.wait_for_answer(ANSWER_SECONDS):
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL (process {postmaster.pid}) answers no query on {location.socket_dir}. "
            f"It was left alone; its log is {location.log}. "
            f"Stop it (kill -INT {postmaster.pid}) and try again."
        )
    # Also on a server that runs: who started it may have been killed before this.
    create_missing_database(location)


def _start(location: Location, account: Account) -> None:
    tree = runnable_tree(location, account)
    location.log.write_bytes(b"")
    if not location.data.exists():
        _initialize(location, account, tree)
    _verify_version(location)
    _forget_dead_server(location)
    _start_server(location, account, tree)
    drop_orphaned_databases(location)


def stop(location: Location) -> None:
    """Stop the server if the process is verified to be ours, by a query too; else leave it alone."""
    postmaster = running_postmaster(location)
    if postmaster is None:
        return
    if not postmaster.wait_for_answer(0) or not postmaster.stop(STOP_SECONDS):
        logger.warning(
            "The embedded PostgreSQL (process %s) could not be stopped and was left running; see %s.",
            postmaster.pid,
            location.log,
        )


def _initialize(location: Location, account: Account, tree: Path) -> None:
    """Make the cluster beside its place and rename it: a half-made one is never taken for a cluster."""
    for leftover in location.root.glob("initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix="initdb-", dir=location.root))
    shutil.chown(scratch, account.uid, account.gid)
    _run(
        location,
        account,
        [tree / "bin" / "initdb", *INITDB_OPTIONS, f"--username={location.user}", "-D", scratch],
    )
    scratch.rename(location.data)


def _verify_version(location: Location) -> None:
    found = (location.data / "PG_VERSION").read_text().strip()
    if found != str(MAJOR_VERSION):
        raise EmbeddedPostgresError(
            f"{location.data} was made by PostgreSQL {found}, and the installed one is {MAJOR_VERSION}. "
            f"Nothing was changed. Remove the directory to begin with empty development data."
        )


def _forget_dead_server(location: Location) -> None:
    """Remove what a server killed with its machine has left; it was verified that none runs.

    PostgreSQL would take any living process with a recorded id for that server, and refuse to start.
    """
    (location.data / "postmaster.pid").unlink(missing_ok=True)
    (location.socket_dir / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _start_server(location: Location, account: Account, tree: Path) -> None:
    settings = {
        **SERVER_SETTINGS,
        "unix_socket_directories": str(location.socket_dir),
        "port": str(location.port),
    }
    options = shlex.join(argument for item in settings.items() for argument in ("-c", "=".join(item)))
    start = ["start", "-w", "-t", str(START_SECONDS), "-D", str(location.data), "-o", options]
    deadline = time.monotonic() + ORPHANS_SECONDS
    while True:
        try:
            return _run(location, account, [tree / "bin" / "pg_ctl", *start])
        except EmbeddedPostgresError:
            if time.monotonic() > deadline:
                raise
        time.sleep(ORPHANS_SECONDS / 20)


def _run(location: Location, account: Account, command: Sequence[str | Path]) -> None:
    # To a file: the server inherits the output of pg_ctl, and a pipe would stay open as long as it runs.
    with location.log.open("ab") as log:
        try:
            status = account.run(command, output=log)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"{command[0]} could not be run as user id {account.uid}: {error}"
            ) from error
    if status:
        tail = location.log.read_text(errors="replace")[-2000:].strip()
        raise EmbeddedPostgresError(
            f"{Path(command[0]).name} of the embedded PostgreSQL failed (exit status {status}). "
            f"The end of {location.log}:\n{tail}"
        )
