"""Ctrl-C in a long command: finish what is in flight, then stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """Set the event at the first SIGINT or SIGTERM, for the work to stop at the next good place.

    The second one acts as it did before the block: Ctrl-C raises KeyboardInterrupt at once.
    """
    stopping = Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number: int, frame: FrameType | None) -> None:
        stopping.set()
        restore()

    for number in numbers:
        signal.signal(number, receive)
    try:
        yield stopping
    finally:
        restore()
