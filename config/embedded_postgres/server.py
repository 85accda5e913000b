"""Sharing one server among processes: the first to use it starts it, the last to leave stops it."""

import atexit
import contextlib
import functools
import os
import threading
from pathlib import Path

from psycopg import pq

from config.embedded_postgres.cluster import ensure_running, stop
from config.embedded_postgres.location import Location, make_private_dir
from config.embedded_postgres.locks import Registration, exclusive


class EmbeddedPostgres:
    """This process's view of the server of one location."""

    def __init__(self, location: Location) -> None:
        """Touch nothing; the server starts with `ensure`."""
        self.location = location
        self._threads = threading.Lock()
        self._registration: Registration | None = None
        os.register_at_fork(after_in_child=self._start_over)

    def ensure(self) -> None:
        """Register this process as a user of the server, starting it if it does not run.

        Costs nothing once it has succeeded. Takes libpq's variables (PGHOSTADDR, PGSERVICE, ...) out of
        this process's environment: they would send connections elsewhere.
        Raises EmbeddedPostgresError, or ImproperlyConfigured when the binaries are not installed.
        """
        if self._registration is not None:
            return
        with self._threads:
            if self._registration is None:
                self._registration = self._register()

    def revive(self) -> None:
        """Start the server again if somebody else has stopped it under its users."""
        with self._threads, exclusive(self._mutex):
            ensure_running(self.location)

    def leave(self) -> None:
        """Sign this process off; the last user stops the server."""
        with self._threads:
            registration, self._registration = self._registration, None
            if registration is None:
                return
            try:
                # The directory may have been removed under us; the server then stops by itself.
                with contextlib.suppress(FileNotFoundError), exclusive(self._mutex):
                    if registration.is_last():
                        stop(self.location)
            finally:
                registration.release()

    @property
    def _mutex(self) -> Path:
        return self.location.root / "lock"

    def _register(self) -> Registration:
        _forget_libpq_environment()
        # For root the server's account passes through to its own directories, and reads none of ours.
        make_private_dir(self.location.root, owner=os.geteuid(), mode=0o711 if os.geteuid() == 0 else 0o700)
        with exclusive(self._mutex):
            registration = Registration(self.location.root / "users")
            try:
                ensure_running(self.location)
            except BaseException:
                registration.release()
                raise
        atexit.register(self.leave)
        return registration

    def _start_over(self) -> None:
        """In a forked child: it is no user yet, and must not sign its parent off."""
        self._threads = threading.Lock()
        registration, self._registration = self._registration, None
        if registration is not None:
            registration.disown()


@functools.cache
def embedded_postgres(base_dir: Path) -> EmbeddedPostgres:
    """Return the server of the project in `base_dir`, one object per process."""
    return EmbeddedPostgres(Location.of(base_dir))


def _forget_libpq_environment() -> None:
    for option in pq.Conninfo.get_defaults():
        if option.envvar:
            os.environ.pop(option.envvar.decode(), None)
