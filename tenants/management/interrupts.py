"""Stop a long command on Ctrl-C or SIGTERM after its current item."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from time import monotonic, sleep
from types import FrameType

POLL_SECONDS = 0.2


class StopEvent(Event):
    """An event for signal handlers. `set` takes no lock, because the interrupted code may hold the lock."""

    def __init__(self) -> None:
        super().__init__()
        self._is_stopping = False

    def set(self) -> None:
        """Set the event."""
        self._is_stopping = True

    def is_set(self) -> bool:
        """Return whether the event is set."""
        return self._is_stopping

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, for at most `timeout` seconds; return whether it is set."""
        end = monotonic() + (float("inf") if timeout is None else timeout)
        while not self._is_stopping and monotonic() < end:
            sleep(min(POLL_SECONDS, max(0.0, end - monotonic())))
        return self._is_stopping


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """Yield an event that the first SIGINT or SIGTERM sets. The block must check the event and stop.

    A second signal acts as it did before the block: Ctrl-C raises KeyboardInterrupt at once.
    """
    stopping = StopEvent()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def receive(number: int, frame: FrameType | None) -> None:
        stopping.set()
        restore()

    for number in handlers:
        signal.signal(number, receive)
    try:
        yield stopping
    finally:
        restore()
