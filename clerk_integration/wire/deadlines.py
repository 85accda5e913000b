"""One deadline for all requests to Clerk of a service call.

HTTP libraries have timeouts per phase only: a server that sends one byte a second never exceeds any of them.
The deadline here is a time of the monotonic clock in a context variable. `transport` limits every wait on the
socket to the time that is left.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from clerk_integration.conf import clerk_settings

_deadline: ContextVar[float | None] = ContextVar("clerk_deadline", default=None)
_suspended: ContextVar[float] = ContextVar("clerk_deadlines_suspended", default=0.0)
"""Seconds of this context that count towards no deadline."""


@contextmanager
def clerk_deadline(seconds: float) -> Iterator[None]:
    """Limit all calls to Clerk inside the block to `seconds` together; the earliest nested deadline applies.

    After the deadline, the running call and every later call raise ClerkUnavailable. Threads that are started
    inside the block have no deadline. Do not `yield` inside the block: the deadline would also apply to the
    consumer.
    """
    end = _now() + seconds
    outer = _deadline.get()
    token = _deadline.set(end if outer is None else min(end, outer))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def default_deadline(seconds: float | None = None) -> Iterator[None]:
    """Set a deadline of `seconds` (default: CLERK_TIMEOUT_SECONDS) unless a deadline is already set."""
    if _deadline.get() is not None:
        yield
        return
    with clerk_deadline(clerk_settings.timeout_seconds if seconds is None else seconds):
        yield


@contextmanager
def deadlines_suspended() -> Iterator[None]:
    """Exclude the time inside the block from every deadline, because the block does not wait for Clerk."""
    started = monotonic()
    try:
        yield
    finally:
        _suspended.set(_suspended.get() + monotonic() - started)


def remaining_seconds() -> float:
    """Return the seconds until the deadline: 0.0 after it, infinity if there is none."""
    end = _deadline.get()
    return float("inf") if end is None else max(0.0, end - _now())


def _now() -> float:
    return monotonic() - _suspended.get()
