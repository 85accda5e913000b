"""Time stamps that are never equal, so that a test can always tell which change came later."""

import time


class MillisecondClock:
    """Milliseconds since 1970, each call at least one more than the call before.

    Not thread-safe: the store asks for stamps while it holds its lock.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return the current time, or the last stamp plus one when that is later."""
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        return self._last
