"""The embedded server for its users: the server runs while at least one process uses it.

Three lock files under `Location.root` coordinate the processes. The kernel releases a lock when its last
holder ends, even after SIGKILL. Therefore a lock is never stale.

| file     | held by                                                    | mode      |
| -------- | ---------------------------------------------------------- | --------- |
| `users`  | every process that uses the server                         | shared    |
| `lock`   | the process that starts the server                         | exclusive |
| `server` | the server and its backends, from its start                | exclusive |

`reaper` waits for the exclusive lock on `users` and then stops the server.
"""

import fcntl
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import pq

from config.embedded_postgres.account import server_account
from config.embedded_postgres.cluster import start_server
from config.embedded_postgres.databases import create_missing_database, is_answering
from config.embedded_postgres.location import EmbeddedPostgresError, Location, make_private_dir
from config.embedded_postgres.reaper import is_locked, open_lock

ANSWER_SECONDS = 30
POLL_SECONDS = 0.02
PROJECT = Path(__file__).parents[2]


class EmbeddedPostgres:
    """One project's server, as seen from this process."""

    def __init__(self, location: Location) -> None:
        self.location = location
        self._threads = threading.Lock()
        self._is_user = False

    def ensure(self) -> None:
        """Register this process as a user of the server, and start the server if it is not running.

        The registration ends with the process; a forked child inherits it. Later calls cost nothing.
        Remove libpq's variables (PGHOSTADDR, PGSERVICE, ...) from the environment of this process,
        because they would direct connections to another server.
        Raise EmbeddedPostgresError, or ImproperlyConfigured if the binaries are not installed.
        """
        if self._is_user:
            return
        with self._threads:
            if not self._is_user:
                _forget_libpq_environment()
                # The server's account must be able to enter root's directory, but not to list it.
                mode = 0o711 if os.geteuid() == 0 else 0o700
                make_private_dir(self.location.root, owner=os.geteuid(), mode=mode)
                self._start_as_user()
                self._is_user = True

    def restart(self) -> None:
        """Start the server again if it has died while this process was using it."""
        with self._threads, self._starting():
            self._run()

    def _start_as_user(self) -> None:
        users = open_lock(self.location.root / "users")
        try:
            fcntl.flock(users, fcntl.LOCK_SH)
            with self._starting():
                self._run()
        except BaseException:
            os.close(users)
            raise
        # `users` stays open for the rest of the process.

    @contextmanager
    def _starting(self) -> Iterator[None]:
        descriptor = open_lock(self.location.root / "lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _run(self) -> None:
        make_private_dir(self.location.socket_dir, owner=server_account(self.location)[0])
        # Start the reaper first, because this process may be killed while the server is starting.
        if not is_locked(self.location.root / "reaper"):
            reaper = [sys.executable, "-m", "config.embedded_postgres.reaper", str(self.location.root)]
            subprocess.run(reaper, cwd=PROJECT, check=True)  # noqa: S603 - our own program
        deadline = time.monotonic() + ANSWER_SECONDS
        while not is_answering(self.location):
            if not is_locked(self.location.root / "server"):
                start_server(self.location)
            elif time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"The embedded PostgreSQL is running and has not answered a query on "
                    f"{self.location.socket_dir} for {ANSWER_SECONDS} s. It was left alone. Read its log, "
                    f"{self.location.log}, stop the process that {self.location.data}/postmaster.pid names "
                    f"(kill -INT), and try again."
                )
            time.sleep(POLL_SECONDS)
        # Do this for a running server, too: the process that started it may have been killed too early.
        create_missing_database(self.location)


@functools.cache
def embedded_postgres(base_dir: Path) -> EmbeddedPostgres:
    """Return the server of the project in `base_dir`, one object per process."""
    return EmbeddedPostgres(Location.of(base_dir))


def _forget_libpq_environment() -> None:
    for option in pq.Conninfo.get_defaults():
        if option.envvar:
            os.environ.pop(option.envvar.decode(), None)
