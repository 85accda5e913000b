"""The processes of a demo: each logs to a file of its own, and none outlives it, even when it is killed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from django.conf import settings

from tenants.demo import keeper
from tenants.demo.exceptions import DemoError
from tenants.demo.interrupts import Interrupts

POLL_SECONDS = 0.05
START_SECONDS = 60.0
COMMAND_SECONDS = 60.0
STOP_SECONDS = 5.0
TAIL_LINES = 20


class Child:
    """One process, started by Children."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        *,
        pass_fds: Sequence[int],
        stop_signal: signal.Signals,
    ) -> None:
        self.name = name
        self._stop_signal = stop_signal
        self._output = log.with_suffix(".out")
        self._log = log
        with self._output.open("wb") as output, log.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - commands of our own
                command,
                cwd=settings.BASE_DIR,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                pass_fds=pass_fds,
                # Ctrl-C at the terminal reaches us alone; we stop the others.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group and session."""
        return self._process.pid

    def require_alive(self) -> None:
        """Raise DemoError with the end of the log when the process is gone."""
        status = self._process.poll()
        if status is not None:
            ending = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            raise DemoError(f"The process {self.name!r} is gone ({ending}).{self.last_words()}")

    def last_words(self) -> str:
        """Return the end of its log, to be appended to a message; empty when it logged nothing."""
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(["", f"The end of the log of {self.name!r}:", *lines]) if lines else ""

    def first_line(self) -> str:
        """Wait for the first line of its output and return it; raise DemoError when none comes."""
        deadline = time.monotonic() + START_SECONDS
        while "\n" not in (output := self._output.read_text(errors="replace")):
            self.require_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"The process {self.name!r} has not started in {START_SECONDS:.0f} s.")
            time.sleep(POLL_SECONDS)
        return output.partition("\n")[0]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process from running during the block: its port takes connections, and nobody answers."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            os.waitpid(self._process.pid, os.WUNTRACED)
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def wait_ended(self) -> None:
        """Wait until the process ends by itself; raise DemoError when it takes too long."""
        try:
            self._process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(
                f"The process {self.name!r} has not ended in {COMMAND_SECONDS:.0f} s.{self.last_words()}"
            ) from None

    def completed_output(self) -> str:
        """Return the output of a process that has ended; raise DemoError unless with exit status 0."""
        if self._process.returncode:
            self.require_alive()
        return self._output.read_text(errors="replace")

    def ask_to_stop(self) -> None:
        """Send the signal upon which it ends by itself."""
        self._process.send_signal(self._stop_signal)

    def wait_stopped(self) -> None:
        """Wait until the process has ended; kill it, and what it started, if it takes too long."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Keeper:
    """The process that ends the others when we are killed: it notices that our end of its input closes."""

    def __init__(self, logs: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a program of our own
            [sys.executable, "-I", keeper.__file__, logs],
            stdin=subprocess.PIPE,
            text=True,
            # A signal to our group, or the end of our terminal, must leave it to its work.
            start_new_session=True,
        )

    def keep(self, child: Child) -> None:
        """Have it killed when we are."""
        self._tell(f"+{child.pid}")

    def forget(self, child: Child) -> None:
        """Leave it alone: it has ended, and its id may be somebody else's soon."""
        self._tell(f"-{child.pid}")

    def dismiss(self) -> None:
        """Let it go, and wait until it has."""
        with suppress(BrokenPipeError):
            self._process.communicate()

    def _tell(self, line: str) -> None:
        # Without it the demo works as well, unless it is killed.
        with suppress(BrokenPipeError):
            print(line, file=self._process.stdin, flush=True)


class Children:
    """All processes of a demo; leaving the block stops them, and so does our death."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._children: list[Child] = []
        self._logs = tempfile.TemporaryDirectory(prefix="clerk-tenants-demo-")
        self._keeper = Keeper(self._logs.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._interrupts.ignore()
        finally:
            for child in reversed(self._children):
                child.ask_to_stop()
            for child in self._children:
                child.wait_stopped()
                self._keeper.forget(child)
            self._keeper.dismiss()
            self._logs.cleanup()

    def start(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        pass_fds: Sequence[int] = (),
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Child:
        """Start `command` with the environment `env` and nothing else of ours."""
        log = Path(self._logs.name) / f"{name}.log"
        with self._interrupts.held():
            child = Child(name, command, env, log, pass_fds=pass_fds, stop_signal=stop_signal)
            self._children.append(child)
            self._keeper.keep(child)
        return child

    def run(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> str:
        """Run `command` to its end and return its output; raise DemoError unless it exits with 0."""
        child = self.start(name, command, env)
        child.wait_ended()
        self._children.remove(child)
        self._keeper.forget(child)
        return child.completed_output()

    def require_alive(self) -> None:
        """Raise DemoError naming the first process that is gone."""
        for child in self._children:
            child.require_alive()

    def last_words(self) -> str:
        """Return the ends of all logs, to be appended to a message."""
        return "".join(child.last_words() for child in self._children)
