"""The processes of a demo. Each process writes its own log and ends with the demo."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Self

from django.conf import settings

from tenants.demo import keeper

START_SECONDS = 60.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.05
TAIL_LINES = 20

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """The demo cannot continue; the message tells the user why and what to do."""


class StepFailed(DemoError):
    """A result of a step is not what the step promises."""


class Interrupted(BaseException):
    """A signal asks the demo to stop. Not an Exception, so that no error handler catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        # The exit code that a shell reports for a program that a signal ended.
        self.exit_status = 128 + number


def raise_on_signals() -> None:
    """Raise Interrupted for the first signal; keep ignoring SIGHUP if the parent ignores it (nohup)."""

    def receive(number: int, frame: FrameType | None) -> None:
        ignore_signals()
        raise Interrupted(number)

    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, receive)


def ignore_signals() -> None:
    """Ignore further signals: the demo is stopping its processes."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Processes:
    """The processes of one demo, in one process group.

    `keeper` leads the group and kills the group if the demo is killed. Ctrl-C does not reach the group.
    The end of the `with` block stops the processes.
    """

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = tempfile.TemporaryDirectory(prefix="clerk-tenants-demo-")
        self._keeper = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", keeper.__file__, self._logs.name], stdin=subprocess.PIPE, process_group=0
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        ignore_signals()
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        os.killpg(self._keeper.pid, signal.SIGKILL)
        for process in (self._keeper, *self._running.values()):
            process.communicate()
        self._logs.cleanup()

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], *, pass_fds: Sequence[int] = ()
    ) -> None:
        """Start `command` under `name`, with the environment `env` and nothing else."""
        with self._file(name, "out").open("wb") as output, self._file(name, "log").open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                cwd=settings.BASE_DIR,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                pass_fds=pass_fds,
                process_group=self._keeper.pid,
            )

    def run(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> str:
        """Run `command` to its end and return its output; raise DemoError unless it exits with 0."""
        self.start(name, command, env)
        process = self._running.pop(name)
        self.wait_until(lambda: process.poll() is not None, f"The command {name!r}")
        if process.returncode:
            self._running[name] = process  # so that the error shows its log
            self.require_running()
        return self._read(name, "out")

    def first_line(self, name: str) -> str:
        """Wait for the first line of the process's output and return the line."""
        self.wait_until(lambda: "\n" in self._read(name, "out"), f"The start of the process {name!r}")
        return self._read(name, "out").partition("\n")[0]

    def wait_until(self, condition: Callable[[], bool], expected: str) -> None:
        """Wait for `condition`; raise DemoError after START_SECONDS or if a process has ended."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            self.require_running()
            if time.monotonic() > deadline:
                raise DemoError(f"{expected} took more than {START_SECONDS:.0f} s.{self.log_tails()}")
            time.sleep(POLL_SECONDS)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Suspend the process during the block. Its port accepts connections, but no request is answered."""
        process = self._running[name]
        process.send_signal(signal.SIGSTOP)
        try:
            os.waitpid(process.pid, os.WUNTRACED)
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def require_running(self) -> None:
        """Raise DemoError with the ends of the logs if a process has ended."""
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                ending = signal.Signals(-status).name if status < 0 else f"exit status {status}"
                raise DemoError(f"The process {name!r} has ended ({ending}).{self.log_tails()}")

    def log_tails(self) -> str:
        """Return the last lines of every log that is not empty, as text to append to a message."""
        tails = {name: self._read(name, "log").splitlines() for name in self._running}
        return "".join(
            "\n".join([f"\nThe end of the log of {name!r}:", *lines[-TAIL_LINES:]])
            for name, lines in tails.items()
            if lines
        )

    def _read(self, name: str, suffix: str) -> str:
        return self._file(name, suffix).read_text("utf-8", "replace")

    def _file(self, name: str, suffix: str) -> Path:
        return Path(self._logs.name) / f"{name}.{suffix}"
