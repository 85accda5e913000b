"""Being told to stop: Ctrl-C, SIGTERM, or the terminal going away."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """A signal asks to stop. Not an Exception, so that no handler of errors swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number
        """What a shell reports for a program that the signal ends."""


class Interrupts:
    """Turns the first signal into Interrupted, at a moment when nothing gets lost by it."""

    def __init__(self) -> None:
        """Take over SIGINT, SIGTERM and, unless it is ignored (nohup), SIGHUP for good."""
        self._held = False
        self._waiting: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._receive)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a signal wait for the end of the block, so that what is started there is on record first."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._waiting is not None:
                self._raise(self._waiting)

    def ignore(self) -> None:
        """Raise nothing any more: cleaning up is under way."""
        self._held = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._waiting = number
        else:
            self._raise(number)

    def _raise(self, number: int) -> None:
        self.ignore()
        raise Interrupted(number)
