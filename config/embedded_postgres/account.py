"""The operating system account that runs the embedded PostgreSQL: PostgreSQL refuses to run as root."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from config.embedded_postgres.location import EmbeddedPostgresError, Location

UNPRIVILEGED_ACCOUNTS = ("postgres", "nobody")


def server_account(location: Location) -> tuple[int, int]:
    """Return the user id and group id of the server: the caller's own, or for root an unprivileged account.

    Raise EmbeddedPostgresError if the caller is root and the system has no unprivileged account.
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    if location.data.exists():
        owner = location.data.stat()
        return owner.st_uid, owner.st_gid
    for entry in pwd.getpwall():
        if entry.pw_name in UNPRIVILEGED_ACCOUNTS:
            return entry.pw_uid, entry.pw_gid
    raise EmbeddedPostgresError(
        f"PostgreSQL does not run as root, and this system has none of the accounts "
        f"{', '.join(UNPRIVILEGED_ACCOUNTS)}. Nothing was started. Run as another user, or set DATABASE_URL."
    )


def run_as_server(
    location: Location,
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int,
    pass_fds: Sequence[int] = (),
) -> int:
    """Run `command` as the server's account and return its exit status; raise OSError if it cannot start.

    The command does not inherit the environment: PGDATA, PGHOST, LC_ALL and similar variables would change
    the configuration of the server.
    """
    uid, gid = server_account(location)
    switch: dict[str, Any] = {} if uid == os.geteuid() else {"user": uid, "group": gid, "extra_groups": []}
    return subprocess.run(  # noqa: S603 - binaries of the package
        command,
        check=False,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        **switch,
    ).returncode
