"""The system account that the embedded PostgreSQL runs as; PostgreSQL refuses to run as root."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from config.embedded_postgres.exceptions import EmbeddedPostgresError

# Accounts that nearly every system has; none is created.
UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user and group id."""

    uid: int
    gid: int

    @classmethod
    def for_data(cls, data: Path) -> "Account":
        """Return the account of the server on `data`: the caller's own, or an unprivileged one for root.

        Raises EmbeddedPostgresError when the caller is root and the system has no such account.
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        if data.exists():
            found = data.stat()
            return cls(found.st_uid, found.st_gid)
        for name in UNPRIVILEGED:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and there is no account to run it as "
            f"({' or '.join(UNPRIVILEGED)}). Run as another user, or set DATABASE_URL."
        )

    def run(self, command: Sequence[str | Path], *, output: IO[bytes] | int) -> int:
        """Run `command` as this account and return its exit status; raises OSError if it cannot start.

        Nothing of the caller's environment reaches it: PGDATA, PGHOST, LC_ALL and their kind would
        configure the server behind our back.
        """
        switch = self.uid != os.geteuid()
        return subprocess.run(  # noqa: S603 - the binaries of the package, and paths of our own
            command,
            check=False,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=self.uid if switch else None,
            group=self.gid if switch else None,
            extra_groups=[] if switch else None,
        ).returncode
