"""Apply Clerk's documented rate limits, in sliding windows of ten seconds."""

import math
import time
from collections import deque

from clerk_integration.sandbox.errors import ApiError

MODES = ("dev", "live", "none")

WINDOW_SECONDS = 10.0
REQUESTS_PER_WINDOW = {"dev": 100, "live": 1000}
CHANGES_PER_WINDOW = 10
"""The limit for one organization, membership or user: all changes of the object and of its metadata."""


class RateLimiter:
    """Counts requests per instance and changes per object. Not thread-safe."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self._windows: dict[tuple[str, ...], deque[float]] = {}

    def admit(self, *, changed: tuple[str, ...] = ()) -> None:
        """Count one request of the instance; raise `too_many_requests` if a limit is reached.

        If Clerk limits the changes of the object that the request changes, `changed` holds the ids of that
        object; then count one change of the object, too.
        """
        if self.mode != "none":
            self._count(("instance",), REQUESTS_PER_WINDOW[self.mode])
            if changed:
                self._count(changed, CHANGES_PER_WINDOW)

    def _count(self, key: tuple[str, ...], limit: int) -> None:
        now = time.monotonic()
        window = self._windows.setdefault(key, deque())
        while window and window[0] <= now - WINDOW_SECONDS:
            window.popleft()
        if len(window) >= limit:
            raise too_many_requests(window[0] + WINDOW_SECONDS - now)
        window.append(now)


def too_many_requests(seconds: float) -> ApiError:
    """Return a 429 error; its Retry-After is `seconds`, rounded up to a whole number, at least 1."""
    retry_after = max(1, math.ceil(seconds))
    return ApiError(
        "too_many_requests", meta={"resets_in": retry_after}, headers={"Retry-After": str(retry_after)}
    )
