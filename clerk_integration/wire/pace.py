"""One pace for migrations, links and jobs that call Clerk, on all machines that share the database.

Clerk counts the requests of an instance over ten seconds, whoever sends them. Inside `paced()` each
request therefore waits for a slot. The slots follow each other in one row of the database, by the
database's clock (a generic cell rate algorithm: the row holds when the next slot is due), and are
reserved a few at a time, so that a request costs a fraction of a statement. A 429 moves the next
slot for everybody. Requests of the web are not paced: there somebody waits, and they are few. Nor is a
full sync that one process does: one page at a time, for which a slot would cost a statement more.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

from django.db import connection

from clerk_integration.conf import clerk_settings
from clerk_integration.wire.deadlines import deadlines_suspended

WINDOW_SECONDS = 10.0
"""Over which Clerk counts."""

SHARE = 0.95
"""Part of the limit that is used. The rest is for the web, and for requests that arrive bunched."""

RESERVED_SECONDS = 0.05
"""How much of the pace a process reserves at once."""

CATCH_UP_SECONDS = 0.25
"""Slots that nobody took are made up for this long; with SHARE it keeps every window under the limit."""

MAX_PAUSE_SECONDS = 60.0
"""Longest pause that a 429 may impose on everybody."""

_RESERVE = """
INSERT INTO clerk_pace AS pace (id, next_slot_at)
VALUES (1, clock_timestamp() + %(seconds)s * interval '1 second')
ON CONFLICT (id) DO UPDATE
SET next_slot_at = %(seconds)s * interval '1 second' + greatest(
    clock_timestamp() - %(catch_up)s * interval '1 second',
    -- A row from before the clock was set back must not stop everybody.
    least(pace.next_slot_at, clock_timestamp() + 2 * %(max_pause)s * interval '1 second'))
RETURNING extract(epoch FROM next_slot_at - clock_timestamp())::float8 - %(seconds)s
"""

_POSTPONE = """
UPDATE clerk_pace
SET next_slot_at = greatest(next_slot_at, clock_timestamp() + %(seconds)s * interval '1 second')
"""


class _Turns:
    """The slots that this process has reserved and not used, as moments of the monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: deque[float] = deque()

    def take(self) -> float:
        """Return the moment of the next slot."""
        with self._lock:
            self._drop_stale()
            if not self._slots:
                self._slots.extend(_reserve())
            return self._slots.popleft()

    def drop(self) -> None:
        """Give up what is reserved."""
        with self._lock:
            self._slots.clear()

    def forget_after_fork(self) -> None:
        """In a forked child: the slots are the parent's, and a thread that is not here may hold the lock."""
        self._lock = threading.Lock()
        self._slots = deque()

    def _drop_stale(self) -> None:
        """A slot used late would crowd the ones after it."""
        while self._slots and self._slots[0] < time.monotonic() - CATCH_UP_SECONDS:
            self._slots.popleft()


class _Pacing:
    """The state of one paced block: whether its next request has its turn already."""

    def __init__(self) -> None:
        self.holds_turn = False


_turns = _Turns()
os.register_at_fork(after_in_child=_turns.forget_after_fork)
_pacing: ContextVar[_Pacing | None] = ContextVar("clerk_pacing", default=None)


@contextmanager
def paced() -> Iterator[None]:
    """Let each request to Clerk inside the block wait for its turn under CLERK_RATE_LIMIT.

    Writes `clerk_pace`, a statement for some requests. Waiting does not count towards a
    `clerk_deadline`. The block is of this thread: threads started inside need one of their own.
    """
    token = _pacing.set(_pacing.get() or _Pacing())
    try:
        yield
    finally:
        _pacing.reset(token)


def await_turn() -> None:
    """Wait until the next request may be sent; outside of `paced()`, do nothing.

    For who must not wait any more when it sends, because the request is put on record with its
    time: the turn is kept for the next request.
    """
    pacing = _pacing.get()
    if pacing is not None and not pacing.holds_turn:
        with deadlines_suspended():
            time.sleep(max(0.0, _turns.take() - time.monotonic()))
        pacing.holds_turn = True


def use_turn() -> None:
    """Wait like `await_turn`, and use the turn up; `client` calls this before each request."""
    await_turn()
    pacing = _pacing.get()
    if pacing is not None:
        pacing.holds_turn = False


def postpone(seconds: float) -> None:
    """Let nobody's next slot come sooner than in `seconds` (60 at the most).

    Outside of `paced()` it does nothing. Called after a 429 with what Clerk names. Writes `clerk_pace`.
    """
    if _pacing.get() is not None:
        _turns.drop()
        with connection.cursor() as cursor:
            cursor.execute(_POSTPONE, {"seconds": min(seconds, MAX_PAUSE_SECONDS)})


def requests_per_second() -> float:
    """The pace: the share of CLERK_RATE_LIMIT that all paced work uses together."""
    return clerk_settings.rate_limit * SHARE / WINDOW_SECONDS


def _reserve() -> list[float]:
    """Reserve the next slots in the database; return their moments on this process's monotonic clock."""
    rate = requests_per_second()
    count = max(1, round(rate * RESERVED_SECONDS))
    with connection.cursor() as cursor:
        cursor.execute(
            _RESERVE,
            {"seconds": count / rate, "catch_up": CATCH_UP_SECONDS, "max_pause": MAX_PAUSE_SECONDS},
        )
        [wait] = cast("tuple[float]", cursor.fetchone())
    first = time.monotonic() + wait
    return [first + number / rate for number in range(count)]
