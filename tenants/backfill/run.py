"""Run a migration: a plan in slices, which the command or any number of workers carry out.

The outcome of each tenant is stored with its slice. If a slice is carried out twice, each tenant still
counts once, and an organization that was created stays recorded as created.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.db.models import F, Value
from django.db.models.functions import Concat, Now
from procrastinate.types import JSONDict

from clerk_integration.exceptions import ClerkError
from clerk_integration.wire.pace import paced
from tenants.backfill.plan import Plan, PlanRow
from tenants.backfill.snapshot import LazySnapshot
from tenants.backfill.step import Outcome, Result, decided, migrate
from tenants.creation.instances import require_own_instance
from tenants.exceptions import SyncInterrupted, SyncLost
from tenants.models import SyncRun, SyncRunSlice
from tenants.runs import slices
from tenants.runs.failures import FailedAlike, FailureStreak
from tenants.runs.leases import held_runs
from tenants.runs.records import recorded_run

logger = logging.getLogger(__name__)

DECIDED, TENANTS = "decided", "tenants"
"""The two parts of a run: the tenants that need no call to Clerk, and all other tenants."""

MIGRATE_SLICE = "tenants.tasks.migrate_slice"

DECIDED_SLICE = 1_000
"""Number of tenants in one slice that need no call to Clerk."""

SLICE = 5
"""Number of tenants in one slice, at most `MAX_ALIKE`: two or three seconds of work for a test key."""

MAX_TRIES = 3
"""Maximum number of tries for a tenant while the outcome of its earlier attempt is not known."""

MAX_NAMED = 5
"""Maximum number of tenants that a line for the operator names."""

OUTAGES = ("ClerkUnavailable", "ClerkRateLimited", "OperationalError", "InterfaceError")
"""Kinds of failure for which a worker tries a slice again later."""

COLUMNS = {
    Result.CREATED: "created",
    Result.ADOPTED: "updated",
    Result.SKIPPED: "unchanged",
    Result.CONFLICT: "failed",
    Result.FAILED: "failed",
}
"""The column of `SyncRun` that counts each result."""

DONE = (Result.CREATED, Result.ADOPTED)
"""Results that stay if the slice is repeated, because the repetition finds the tenant linked."""

Report = Callable[[Outcome], None]

Postponed = tuple[SyncRunSlice, PlanRow, Outcome]
"""The slice and the row of a tenant to try again, and its outcome so far."""


def run_migration(
    plan: Plan,
    *,
    concurrency: int,
    stopping: threading.Event,
    report: Report,
    note: Callable[[str], None],
) -> tuple[SyncRun, str]:
    """Carry out the plan in this process; return the run, and the error that stopped it or an empty string.

    Migrate `concurrency` tenants at a time, at the shared pace. `report` is called with each outcome, by
    one thread at a time; an OSError that it raises stops the run. `note` is called with lines for the
    operator. When `stopping` is set, finish the tenants that were begun, and record the run as interrupted.
    Write `sync_runs` and `sync_run_slices`.
    """
    error = ""
    with _begin(plan, report, stopping) as (run, carrier):
        try:
            slices.carry(run, TENANTS, carrier, concurrency=concurrency, stopping=stopping)
            carrier.finish_postponed(note)
        except SyncInterrupted:
            logger.info("Migration %s was interrupted", run.pk)
        except (ClerkError, FailedAlike, OSError, SyncLost) as failure:
            error = str(failure)
        return _conclude(run, interrupted=stopping.is_set(), error=error), error


def enqueue_migration(plan: Plan, *, report: Report) -> SyncRun:
    """Leave the plan to the workers; return its run.

    Tenants that need no call to Clerk are recorded and reported at once. Write `sync_runs`,
    `sync_run_slices` and the jobs.
    """
    with _begin(plan, report, threading.Event()) as (run, _):
        if not run.slices.filter(part=TENANTS).exists():
            return _conclude(run)
        slices.hand_out(run, TENANTS, MIGRATE_SLICE)
    return run


def migrate_slice(run_id: int, part: str, number: int) -> None:
    """Do the job of one slice. A repeated job continues with the tenants that are left.

    Write the slice, `sync_runs` and the rows that `step.migrate` writes. Raise ClerkMisconfigured (for
    example WrongInstance), and FailedAlike for an outage; then the worker tries the job again.
    """
    carrier = Carrier()

    def carry(piece: SyncRunSlice) -> None:
        require_own_instance()
        try:
            carrier(piece)
            carrier.finish_postponed()
        except FailedAlike as failure:
            # Other failures are already recorded, and the slice has no further tenant.
            if failure.kind in OUTAGES:
                raise

    run = SyncRun.objects.get(pk=run_id)
    if run.state == SyncRun.State.RUNNING and slices.carry_one(run, part, number, carry):
        _conclude(run)


def counts_of(run: SyncRun) -> Mapping[str, int]:
    """Return how many tenants have each result so far, and how many members Clerk refused."""
    outcomes = [outcome for piece in run.slices.all() for outcome in piece.outcomes.values()]
    results = Counter(outcome["result"] for outcome in outcomes)
    return {
        **{result.value: results[result.value] for result in COLUMNS},
        "members_refused": sum(outcome["members_refused"] for outcome in outcomes),
    }


class Carrier:
    """Carries out slices, in one or more threads: migrate each tenant, then record and report its outcome.

    A tenant is postponed while the outcome of its earlier attempt is not known. `check` is called before
    each tenant and raises an exception if the run must not continue.
    """

    def __init__(
        self,
        *,
        check: Callable[[], None] = lambda: None,
        report: Report = lambda outcome: None,
        stopping: threading.Event | None = None,
    ) -> None:
        self._check = check
        self._report = report
        self._stopping = stopping or threading.Event()
        self._lock = threading.Lock()
        self._streak = FailureStreak()
        self._postponed: list[Postponed] = []

    def __call__(self, piece: SyncRunSlice) -> None:
        """Carry out one slice. Raise SyncInterrupted, FailedAlike and ClerkMisconfigured."""
        rows = [PlanRow.from_json(row) for row in piece.arguments["rows"]]
        rows = [row for row in rows if not _is_done(piece, row.tenant_id)]
        snapshot = LazySnapshot([row.tenant_id for row in rows])
        with paced():
            for row in rows:
                self._migrate(piece, row, snapshot, may_postpone=True)

    def finish_postponed(self, note: Callable[[str], None] = logger.info) -> None:
        """Wait until the outcomes of postponed tenants can be known, and finish these tenants.

        `note` is called with a line for the operator. Raise the same exceptions as `__call__`.
        """
        for tries_left in reversed(range(MAX_TRIES - 1)):
            postponed, self._postponed = self._postponed, []
            if not postponed:
                return
            seconds = max(outcome.retry_after for _, _, outcome in postponed)
            tenants = ", ".join(str(row.tenant_id) for _, row, _ in postponed[:MAX_NAMED])
            more = ", ..." if len(postponed) > MAX_NAMED else ""
            note(f"Waiting {seconds:.0f} s until it is known what Clerk created for tenants {tenants}{more}")
            self._stopping.wait(seconds)
            snapshot = LazySnapshot([row.tenant_id for _, row, _ in postponed])
            with paced():
                for piece, row, _ in postponed:
                    self._migrate(piece, row, snapshot, may_postpone=tries_left > 0)

    def _migrate(
        self, piece: SyncRunSlice, row: PlanRow, snapshot: LazySnapshot, *, may_postpone: bool
    ) -> None:
        self._check()
        if self._stopping.is_set():
            raise SyncInterrupted(f"Stopped before tenant {row.tenant_id}.")
        outcome = migrate(row, snapshot)
        if outcome.result is Result.WAITING and may_postpone:
            self._postponed.append((piece, row, outcome))
        else:
            if outcome.result is Result.WAITING:
                outcome = replace(outcome, result=Result.FAILED)
            _record(piece, outcome)
            with self._lock:
                self._report(outcome)
        self._streak.add(f"tenant {row.tenant_id}", kind=outcome.failure, message=outcome.error)


@contextmanager
def _begin(plan: Plan, report: Report, stopping: threading.Event) -> Iterator[tuple[SyncRun, Carrier]]:
    """Record a run, store the plan in slices, and record the part that needs no call to Clerk as done."""
    with recorded_run(SyncRun.Kind.MIGRATION, tenants=len(plan.rows)) as lease:
        _record_decided(lease.run, [row for row in plan.rows if row.draft is None], report)
        rows: list[Any] = [row.as_json() for row in plan.rows if row.draft is not None]
        cut: list[JSONDict] = [{"rows": rows[start : start + SLICE]} for start in range(0, len(rows), SLICE)]
        slices.plan(lease.run, TENANTS, cut)
        yield lease.run, Carrier(check=lease.check, report=report, stopping=stopping)


def _record_decided(run: SyncRun, rows: Sequence[PlanRow], report: Report) -> None:
    """Record and report the tenants that need no call to Clerk, in closed slices: few statements for many."""
    for number, start in enumerate(range(0, len(rows), DECIDED_SLICE)):
        some = rows[start : start + DECIDED_SLICE]
        outcomes = [decided(row) for row in some]
        SyncRunSlice.objects.create(
            run=run,
            part=DECIDED,
            number=number,
            arguments={"rows": [row.as_json() for row in some]},
            outcomes={str(outcome.tenant_id): _as_json(outcome) for outcome in outcomes},
            closed_at=Now(),
        )
        _count(run, Counter(COLUMNS[outcome.result] for outcome in outcomes))
        for outcome in outcomes:
            report(outcome)


def _is_done(piece: SyncRunSlice, tenant_id: int) -> bool:
    outcome = piece.outcomes.get(str(tenant_id))
    return outcome is not None and outcome["result"] in DONE


def _record(piece: SyncRunSlice, outcome: Outcome) -> None:
    """Store the outcome with its slice, and count it in the run."""
    with slices.locked(piece) as locked:
        if _is_done(locked, outcome.tenant_id):
            return
        earlier = locked.outcomes.get(str(outcome.tenant_id))
        locked.outcomes[str(outcome.tenant_id)] = _as_json(outcome)
        locked.save(update_fields=["outcomes"])
        counts = Counter([COLUMNS[outcome.result]])
        counts.subtract([] if earlier is None else [COLUMNS[Result(earlier["result"])]])
        _count(piece.run, counts)


def _as_json(outcome: Outcome) -> JSONDict:
    """Return the outcome in the form that a slice stores."""
    return {
        "result": outcome.result.value,
        "members_refused": len(outcome.member_problems),
        "problem": f"tenant {outcome.tenant_id}: {outcome.message}" if outcome.failed else "",
    }


def _count(run: SyncRun, counts: Counter[str]) -> None:
    """Add the counts to the columns of the run."""
    SyncRun.objects.filter(pk=run.pk).update(
        **{column: F(column) + count for column, count in counts.items()}
    )


def _conclude(run: SyncRun, *, interrupted: bool = False, error: str = "") -> SyncRun:
    """End the run, as failed if `error` stopped it or a tenant needs the operator. Write `sync_runs`."""
    problems = slices.problems_of(run.pk)
    state = SyncRun.State.COMPLETED
    if interrupted and not error:
        state = SyncRun.State.INTERRUPTED
    elif error or problems:
        state = SyncRun.State.FAILED
    held_runs(run).update(
        state=state,
        error=Concat("error", Value(problems + error)),
        finished_at=Now(),
        lease_expires_at=None,
    )
    run.refresh_from_db()
    return run
