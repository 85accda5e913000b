"""Circuit breakers: a slow or failing Clerk must not occupy all threads of the web server.

The breakers guard the requests to Clerk that a thread sends while it serves a web request. Commands and jobs
are not guarded; their deadlines limit how long they wait. All state is per process.

| breaker   | a request                                       | Clerk answers  | Clerk does not answer    |
| --------- | ----------------------------------------------- | -------------- | ------------------------ |
| closed    | is sent                                         | count from 0   | FAILURES in a row: open  |
| open      | is refused; after OPEN_SECONDS: half-open       |                |                          |
| half-open | one is sent as a trial; all others are refused  | closed         | open                     |

Reads and writes have separate breakers, so that failing reads do not block a create. Both share the limit of
threads that wait for Clerk. No library fits. pybreaker holds a lock during each call, so that only one thread
at a time could call Clerk. circuitbreaker and purgatory send all requests when half-open.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkError, ClerkNotAsked, ClerkUnavailable
from clerk_integration.signals import breaker_changed, clerk_not_called
from clerk_integration.web_requests import is_serving_request

FAILURES = 2
"""Requests in a row, each with its retries, that open a breaker."""

OPEN_SECONDS = 2.0

SLOT_SECONDS = 1.0
"""How long a thread waits for a slot while Clerk answers quickly."""

SLOW_SECONDS = 1.0
"""Clerk counts as slow if a thread has waited for this time."""


class _Breaker:
    """Refuse requests for OPEN_SECONDS after FAILURES requests in a row got no answer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._failures = 0
        self._opened_at = 0.0
        self._has_trial = False

    def refuse_if_open(self) -> None:
        """Raise ClerkNotAsked if `guard` would raise it now."""
        with self._lock:
            self._refuse_if_open()

    @contextmanager
    def guard(self) -> Iterator[bool]:
        """Run the block, which sends one request, and record whether Clerk answers; or raise ClerkNotAsked.

        Yield whether the request is a trial.
        """
        is_trial = self._enter()
        failed: bool | None = None
        try:
            yield is_trial
            failed = False
        except ClerkNotAsked:
            raise
        except ClerkError as error:
            failed = isinstance(error, ClerkUnavailable) and error.is_outage
            raise
        finally:
            self._leave(is_trial=is_trial, failed=failed)

    def _enter(self) -> bool:
        """Return whether the request is a trial of a half-open breaker; raise ClerkNotAsked to refuse it."""
        with self._lock:
            self._refuse_if_open()
            self._has_trial = is_trial = self._failures >= FAILURES
            return is_trial

    def _refuse_if_open(self) -> None:
        if self._failures < FAILURES:
            return
        if self._has_trial or monotonic() < self._opened_at + OPEN_SECONDS:
            clerk_not_called.send_robust(sender=None, reason="breaker_open")
            raise ClerkNotAsked(
                f"Clerk has not answered {self._failures} requests in a row. Nothing was sent; requests"
                f" are tried again every {OPEN_SECONDS:.0f} s."
            )

    def _leave(self, *, is_trial: bool, failed: bool | None) -> None:
        with self._lock:
            if is_trial:
                self._has_trial = False
            was_open = self._failures >= FAILURES
            if failed:
                self._failures += 1
                self._opened_at = monotonic()
            elif failed is False:
                self._failures = 0
            is_open = self._failures >= FAILURES
            if is_open != was_open:
                breaker_changed.send_robust(sender=None, breaker=self._name, is_open=is_open)


class _Slots:
    """Limit the threads of this process that wait for Clerk to CLERK_MAX_WAITING."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._since: list[float] = []

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot during the block; raise ClerkNotAsked if no slot becomes free in time."""
        with self._changed:
            self._await_slot(monotonic() + SLOT_SECONDS)
            since = monotonic()
            self._since.append(since)
        try:
            yield
        finally:
            with self._changed:
                self._since.remove(since)
                self._changed.notify()

    def _await_slot(self, deadline: float) -> None:
        while len(self._since) >= clerk_settings.max_waiting:
            patience = min(deadline, min(self._since) + SLOW_SECONDS) - monotonic()
            if patience <= 0:
                clerk_not_called.send_robust(sender=None, reason="too_many_waiting")
                raise ClerkNotAsked(
                    f"{len(self._since)} threads of this process wait for Clerk, as many as CLERK_MAX_WAITING"
                    " allows. Nothing was sent. Try again later."
                )
            self._changed.wait(patience)


_reads, _writes, _slots = _Breaker("read"), _Breaker("write"), _Slots()


def reset() -> None:
    """Close the breakers. Called in a forked child, where a thread that does not exist may hold a lock."""
    global _reads, _writes, _slots
    _reads, _writes, _slots = _Breaker("read"), _Breaker("write"), _Slots()


os.register_at_fork(after_in_child=reset)


def guarded_read() -> AbstractContextManager[bool]:
    """Refuse the read in the block if the breaker is open (ClerkNotAsked); applies to web requests only.

    Yields whether the read is the trial of a half-open breaker. A trial is not retried.
    """
    return _guarded(_reads)


def guarded_write() -> AbstractContextManager[bool]:
    """Refuse the write in the block if the breaker is open (ClerkNotAsked); applies to web requests only."""
    return _guarded(_writes)


@contextmanager
def waiting_for_clerk() -> Iterator[None]:
    """Count this thread as waiting for Clerk, if it serves a web request. Raises ClerkNotAsked."""
    if not is_serving_request():
        yield
        return
    with _slots.take():
        yield


@contextmanager
def _guarded(breaker: _Breaker) -> Iterator[bool]:
    if not is_serving_request():
        yield False
        return
    breaker.refuse_if_open()
    # The breaker may open while this thread waits for a slot.
    with _slots.take(), breaker.guard() as is_trial:
        yield is_trial
