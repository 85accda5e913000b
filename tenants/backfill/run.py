"""Carry out a plan: several tenants at a time, each committed separately, none twice."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from django.db import connection

from clerk_integration.wire.pace import paced
from tenants.backfill.plan import Plan, PlanRow
from tenants.backfill.snapshot import SharedSnapshot
from tenants.backfill.step import Outcome, Result, migrate

MAX_ROUNDS = 3
"""How often a tenant is tried whose outcome is not known yet: at once, and when it can be known."""

MAX_FAILURES_IN_A_ROW = 20
"""A run stops after this many tenants in a row that Clerk could not serve."""

STOP_POLL_SECONDS = 0.5

Report = Callable[[Outcome], None]
Note = Callable[[str], None]


class ClerkIsDown(Exception):
    """Clerk failed for so many tenants in a row that the run stopped; what is done is kept."""


def carry_out(plan: Plan, *, concurrency: int, stopping: threading.Event, report: Report, note: Note) -> None:
    """Migrate the plan's tenants in `concurrency` threads; call `report` with each outcome, in this thread.

    Call Clerk at the shared pace. When `stopping` is set, finish what is in flight and return. A tenant
    whose earlier outcome is unknown is tried again when it can be known, after a minute at most. Raise
    ClerkMisconfigured and ClerkIsDown when what was in flight is finished.
    """
    rows = plan.rows
    snapshot = SharedSnapshot({row.tenant_id for row in rows})
    for remaining_rounds in reversed(range(MAX_ROUNDS)):
        waiting = []
        for row, outcome in _WorkerPool(rows, snapshot, concurrency, stopping).outcomes():
            if outcome.result is Result.WAITING and remaining_rounds and not stopping.is_set():
                waiting.append((row, outcome))
            else:
                report(_final(outcome))
        if not waiting:
            return
        _wait(max(outcome.retry_after for _, outcome in waiting), len(waiting), stopping, note)
        rows = [row for row, _ in waiting]
        if stopping.is_set():
            for _, outcome in waiting:
                report(_final(outcome))
            return


def _wait(seconds: float, tenants: int, stopping: threading.Event, note: Note) -> None:
    note(f"Waiting {seconds:.0f} s to know what Clerk created for {tenants} tenants in an earlier run.")
    deadline = time.monotonic() + seconds
    while not stopping.is_set() and time.monotonic() < deadline:
        stopping.wait(min(STOP_POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _final(outcome: Outcome) -> Outcome:
    """Return WAITING as FAILED: the run ends before the outcome is known."""
    return replace(outcome, result=Result.FAILED) if outcome.result is Result.WAITING else outcome


class _WorkerPool:
    """Threads that take rows one after the other, each with a database connection of its own."""

    def __init__(
        self, rows: Sequence[PlanRow], snapshot: SharedSnapshot, concurrency: int, stopping: threading.Event
    ) -> None:
        self._rows: Iterator[PlanRow] = iter(rows)
        self._snapshot = snapshot
        self._stopping = stopping
        self._given_up = threading.Event()
        self._lock = threading.Lock()
        self._results: queue.Queue[tuple[PlanRow, Outcome | BaseException] | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._work, name=f"migration-{number}")
            for number in range(min(concurrency, max(1, len(rows))))
        ]

    def outcomes(self) -> Iterator[tuple[PlanRow, Outcome]]:
        """Start the threads and yield their outcomes; when all have stopped, raise what ended them."""
        for thread in self._threads:
            thread.start()
        failure: BaseException | None = None
        in_a_row = 0
        try:
            for row, result in self._collect():
                if isinstance(result, BaseException):
                    failure = failure or result
                    self._given_up.set()
                    continue
                in_a_row = in_a_row + 1 if result.clerk_is_down else 0
                if in_a_row >= MAX_FAILURES_IN_A_ROW:
                    failure = failure or ClerkIsDown(
                        f"Clerk failed {in_a_row} times in a row: {result.error}"
                    )
                    self._given_up.set()
                yield row, result
        finally:
            self._given_up.set()
            for thread in self._threads:
                thread.join()
        if failure is not None:
            raise failure

    def _collect(self) -> Iterator[tuple[PlanRow, Outcome | BaseException]]:
        running = len(self._threads)
        while running:
            item = self._results.get()
            if item is None:
                running -= 1
            else:
                yield item

    def _work(self) -> None:
        try:
            with paced():
                while (row := self._next()) is not None:
                    self._results.put((row, self._attempt(row)))
        finally:
            connection.close()
            self._results.put(None)

    def _attempt(self, row: PlanRow) -> Outcome | BaseException:
        try:
            return migrate(row, self._snapshot)
        except BaseException as failure:
            return failure

    def _next(self) -> PlanRow | None:
        with self._lock:
            if self._stopping.is_set() or self._given_up.is_set():
                return None
            return next(self._rows, None)
