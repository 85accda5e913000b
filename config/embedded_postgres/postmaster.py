"""Telling our server's process from a stranger that has inherited its id."""

import signal
import time
from pathlib import Path
from typing import Any

from config.embedded_postgres.account import Account
from config.embedded_postgres.databases import answers
from config.embedded_postgres.exceptions import EmbeddedPostgresError
from config.embedded_postgres.location import Location

POLL_SECONDS = 0.02

# What the kernel's type holds; a damaged file may say anything.
MAX_PID = 2**31 - 1


class Postmaster:
    """The running server of `location`, verified by executable, owner and data directory."""

    def __init__(self, process: Any, location: Location) -> None:
        """Hold `process`, a psutil.Process: it refuses to signal a process that took over the id."""
        self._process = process
        self._location = location

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self._process.pid)

    def wait_for_answer(self, seconds: float) -> bool:
        """Say whether the server answers a query from our data directory within `seconds`."""
        deadline = time.monotonic() + seconds
        while not answers(self._location):
            if time.monotonic() > deadline or self._is_gone():
                return False
            time.sleep(POLL_SECONDS)
        return True

    def stop(self, seconds: float) -> bool:
        """Ask for a fast shutdown (open connections are ended) and say whether it came within `seconds`."""
        self._process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + seconds
        while not self._is_gone():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _is_gone(self) -> bool:
        # PostgreSQL removes the file as its last act. Its process may stay as a zombie for ever where
        # process 1 does not reap, as in many containers.
        return not (self._location.data / "postmaster.pid").exists() or not _command(self._process)


def find_postmaster(location: Location, account: Account, executables: set[Path]) -> Postmaster | None:
    """Return the server that runs on the data directory, None when the id belongs to a stranger or nobody.

    Raises EmbeddedPostgresError when another PostgreSQL serves our data directory: it is neither
    used nor stopped.
    """
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with the package of the binaries

    pid = _recorded_pid(location.data)
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        if process.uids().effective != account.uid or not _serves(process, location.data):
            return None
        executable = _executable(process)
    except psutil.NoSuchProcess:
        return None
    if executable not in executables:
        raise EmbeddedPostgresError(
            f"Process {pid} is a PostgreSQL that serves {location.data}, but not the one of this project. "
            f"It was left alone. Stop it (kill -INT {pid}) and try again."
        )
    return Postmaster(process, location)


def _recorded_pid(data: Path) -> int | None:
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    return pid if 0 < pid <= MAX_PID else None


def _serves(process: Any, data: Path) -> bool:
    command = _command(process)
    if not command or Path(command[0]).name != "postgres":
        return False
    return str(data) in command or _working_directory(process) == data


def _command(process: Any) -> list[str]:
    """Return the arguments; none for a zombie or a process that hides them."""
    import psutil  # noqa: PLC0415 - as above

    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _working_directory(process: Any) -> Path | None:
    import psutil  # noqa: PLC0415 - as above

    try:
        return Path(process.cwd())
    except psutil.Error:
        return None


def _executable(process: Any) -> Path:
    """Return the running file, or what it was called as.

    A container's root may not look into a process of another account (it lacks CAP_SYS_PTRACE).
    """
    import psutil  # noqa: PLC0415 - as above

    try:
        return Path(process.exe())
    except psutil.AccessDenied:
        return Path(_command(process)[0])
