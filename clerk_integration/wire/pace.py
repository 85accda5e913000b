"""One rate limit for creations, staff's batches, migrations, links and jobs, shared by all machines.

Clerk limits the requests of an instance per ten seconds. Inside `paced()` each request therefore waits for a
slot. One database row holds the time of the next slot, by the database's clock (a generic cell rate
algorithm). A process reserves several slots with one statement. A 429 delays the next slot for all processes.
The slots are a SHARE of the limit. The rest is for web requests that read: they are few, and a person waits
for the answer. A creation in a web request takes slots, but is refused if the wait is long. A full sync in
one process is not paced: it reads one page at a time, and a slot would need an extra statement.

A refused request takes no slot, so refusals delay no other request. The longer a caller may wait, the more
it takes precedence: callers with a shorter `max_wait` are refused first.
"""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import cast

from django.db import connection

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkRateLimited
from clerk_integration.signals import clerk_not_called
from clerk_integration.wire.deadlines import deadlines_suspended

WINDOW_SECONDS = 10.0
"""The window in which Clerk counts requests."""

SHARE = 0.95
"""Used fraction of the limit. The rest is for web requests and for requests that arrive close together."""

RESERVED_SECONDS = 0.05
"""A process reserves the slots of this many seconds at once."""

CATCH_UP_SECONDS = 0.25
"""How long an unused slot can still be used; with SHARE it keeps every window under the limit."""

MAX_PAUSE_SECONDS = 60.0
"""The longest pause after a 429."""

MAX_AHEAD_SECONDS = 2 * MAX_PAUSE_SECONDS
"""A next slot further ahead was stored before the database's clock was set back. It counts as free now."""

# Returns the wait for the first slot, and whether slots were reserved. None is reserved if the wait is too
# long. The returned wait is then `max_wait` at least: the snapshot of the statement may have an older row.
_RESERVE = """
WITH reserved AS (
    INSERT INTO clerk_pace AS pace (id, next_slot_at)
    VALUES (1, clock_timestamp() + %(seconds)s * interval '1 second')
    ON CONFLICT (id) DO UPDATE
    SET next_slot_at = %(seconds)s * interval '1 second' + greatest(
        clock_timestamp() - %(catch_up)s * interval '1 second',
        CASE WHEN extract(epoch FROM pace.next_slot_at - clock_timestamp()) <= %(max_ahead)s
             THEN pace.next_slot_at END)
    WHERE greatest(extract(epoch FROM pace.next_slot_at - clock_timestamp()), -%(catch_up)s)
          NOT BETWEEN %(max_wait)s::float8 AND %(max_ahead)s
    RETURNING next_slot_at)
SELECT extract(epoch FROM next_slot_at - clock_timestamp())::float8 - %(seconds)s, true FROM reserved
UNION ALL
SELECT greatest(
    %(max_wait)s,
    (SELECT extract(epoch FROM next_slot_at - clock_timestamp())::float8 FROM clerk_pace)), false
WHERE NOT EXISTS (SELECT FROM reserved)
"""

_POSTPONE = """
UPDATE clerk_pace
SET next_slot_at = greatest(next_slot_at, clock_timestamp() + %(seconds)s * interval '1 second')
"""


class _Slots:
    """The slots that this process has reserved and not used, as times of the monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reserved: deque[float] = deque()

    def take(self, number: int, max_wait: float) -> float:
        """Take the next slots and return the time of the last of them; reserve slots if too few are left.

        Raises ClerkRateLimited, and takes none, if the last slot is more than `max_wait` seconds away.
        """
        with self._lock:
            while self._reserved and self._reserved[0] < time.monotonic() - CATCH_UP_SECONDS:
                self._reserved.popleft()
            if (missing := number - len(self._reserved)) > 0:
                self._reserved.extend(_reserve(missing, max_wait))
            last = self._reserved[number - 1]
            if (wait := last - time.monotonic()) > max_wait:
                raise _too_late(wait)
            for _ in range(number):
                self._reserved.popleft()
            return last

    def drop(self) -> None:
        """Discard the reserved slots."""
        with self._lock:
            self._reserved.clear()

    def forget_after_fork(self) -> None:
        """Discard the parent's slots in a forked child, and the lock, which a missing thread may hold."""
        self._lock = threading.Lock()
        self._reserved = deque()


@dataclass
class _Pacing:
    """The state of one `paced()` block: whether it holds a slot for its next request."""

    max_wait: float = math.inf
    holds_slot: bool = False


_slots = _Slots()
os.register_at_fork(after_in_child=_slots.forget_after_fork)
_pacing: ContextVar[_Pacing | None] = ContextVar("clerk_pacing", default=None)


@contextmanager
def paced(*, max_wait: float = math.inf) -> Iterator[None]:
    """Let each request to Clerk inside the block wait until CLERK_RATE_LIMIT allows it.

    Raises ClerkRateLimited before a request that would wait for more than `max_wait` seconds.
    Writes `clerk_pace`, one statement for several requests. The wait does not count towards a
    `clerk_deadline`. A thread that is started inside the block needs its own `paced()` block.
    """
    token = _pacing.set(_pacing.get() or _Pacing(max_wait))
    try:
        yield
    finally:
        _pacing.reset(token)


def await_slot() -> None:
    """Wait until CLERK_RATE_LIMIT allows the next request, and reserve it; do nothing outside of `paced()`.

    A caller that records the time of a request calls this function first.
    """
    pacing = _pacing.get()
    if pacing is not None and not pacing.holds_slot:
        take_slots(1, max_wait=pacing.max_wait)
        pacing.holds_slot = True


def use_slot() -> None:
    """Wait for a slot unless one is kept, and use the slot; `client` calls this before each request."""
    await_slot()
    pacing = _pacing.get()
    if pacing is not None:
        pacing.holds_slot = False


def take_slots(number: int, *, max_wait: float) -> None:
    """Wait for the slots of requests that are then sent without a wait.

    Raises ClerkRateLimited instead of a wait of more than `max_wait` seconds for the last of them. It takes
    none of the slots then, and nothing was sent.
    """
    try:
        slot = _slots.take(number, max_wait)
    except ClerkRateLimited:
        clerk_not_called.send_robust(sender=None, reason="rate_limit")
        raise
    with deadlines_suspended():
        time.sleep(max(0.0, slot - time.monotonic()))


def postpone(seconds: float) -> None:
    """Delay the next slot of all processes by `seconds` (at most 60); outside of `paced()`, do nothing.

    `client` calls this after a 429 with Clerk's Retry-After. Writes `clerk_pace`.
    """
    if _pacing.get() is not None:
        _slots.drop()
        with connection.cursor() as cursor:
            cursor.execute(_POSTPONE, {"seconds": min(seconds, MAX_PAUSE_SECONDS)})


def requests_per_second() -> float:
    """Return the total rate of all paced requests, a fraction of CLERK_RATE_LIMIT."""
    return clerk_settings.rate_limit * SHARE / WINDOW_SECONDS


def _reserve(number: int, max_wait: float) -> list[float]:
    """Reserve at least `number` slots in the database; return their times by the clock of this process.

    Raises ClerkRateLimited, and reserves none, if the last of `number` slots is more than `max_wait` seconds
    away.
    """
    rate = requests_per_second()
    count = max(number, round(rate * RESERVED_SECONDS))
    until_last = (number - 1) / rate
    with connection.cursor() as cursor:
        cursor.execute(
            _RESERVE,
            {
                "seconds": count / rate,
                "catch_up": CATCH_UP_SECONDS,
                "max_ahead": MAX_AHEAD_SECONDS,
                "max_wait": max_wait - until_last,
            },
        )
        wait, is_reserved = cast("tuple[float, bool]", cursor.fetchone())
    if not is_reserved:
        raise _too_late(wait + until_last)
    first = time.monotonic() + wait
    return [first + index / rate for index in range(count)]


def _too_late(wait: float) -> ClerkRateLimited:
    return ClerkRateLimited(
        "The share of Clerk's rate limit for creations and batches (CLERK_RATE_LIMIT) is in use for"
        f" the next {wait:.0f} s. Nothing was sent. Try again later.",
        retry_after=wait,
    )
