"""Stops the embedded server when no process uses it any more. A separate program.

`python -m config.embedded_postgres.reaper ROOT` returns at once and continues in the background.
"""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

IDLE_SECONDS = 10
"""How long the server runs without users. Therefore consecutive commands share one server."""

STOP_SECONDS = 30
POLL_SECONDS = 0.02


def open_lock(path: Path) -> int:
    """Open a lock file. Programs that this process starts do not inherit the descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def is_locked(path: Path) -> bool:
    """Return True if a process holds the exclusive lock on `path`."""
    descriptor = open_lock(path)
    try:
        return not take_lock(descriptor)
    finally:
        os.close(descriptor)


def take_lock(descriptor: int) -> bool:
    """Take the exclusive lock; return False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def recorded_server(root: Path) -> int | None:
    """Return the process id in `postmaster.pid`, or None if no running PostgreSQL has that id."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with the package of the binaries

    try:
        pid = int((root / "data" / "postmaster.pid").read_text().partition("\n")[0])
        process = psutil.Process(pid)
        # A zombie keeps its id: some containers never remove zombies.
        is_running = process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, OverflowError, psutil.Error):
        return None
    return pid if is_running else None


def stop_server(root: Path) -> None:
    """Stop the server under `root` and wait until it has ended; do nothing if it is not running.

    If the server has not ended after STOP_SECONDS, return; the server continues to shut down.
    """
    deadline = time.monotonic() + STOP_SECONDS
    pid = None
    while _is_running(root) and time.monotonic() < deadline:
        if pid is None and (pid := recorded_server(root)) is not None:
            os.kill(pid, signal.SIGINT)  # fast shutdown: ends open connections
        time.sleep(POLL_SECONDS)


def _is_running(root: Path) -> bool:
    try:
        return is_locked(root / "server")
    except FileNotFoundError:
        return False  # no server was ever started, or its directory was removed


def main() -> None:
    """Continue in the background, unless another reaper works on the same directory."""
    root = Path(sys.argv[1])
    own = open_lock(root / "reaper")
    if not take_lock(own) or os.fork():
        return
    _detach()
    users = open_lock(root / "users")
    _wait_until_idle(users)
    # The directory may have been removed, and another made in its place.
    if (root / "users").exists() and os.path.samestat((root / "users").stat(), os.fstat(users)):
        stop_server(root)
    # Release `reaper` before `users`: a new user that gets `users` must see that no reaper is running.
    os.close(own)


def _detach() -> None:
    """Detach from the terminal, the working directory and the output of the parent process."""
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())


def _wait_until_idle(users: int) -> None:
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(IDLE_SECONDS)
        if take_lock(users):
            return


if __name__ == "__main__":
    main()
