"""A migration on record: one `SyncRun`, however many processes work at it."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db.models import Value
from django.db.models.functions import Concat, Now

from tenants.backfill.step import Outcome, Result
from tenants.models import SyncRun
from tenants.runs import records, slices
from tenants.runs.leases import Lease
from tenants.sql import execute

SAVE_SECONDS = 1.0
"""How far the counts in the database may lag behind."""

COLUMNS = {
    Result.CREATED: "created",
    Result.ADOPTED: "updated",
    Result.SKIPPED: "unchanged",
    Result.CONFLICT: "failed",
    Result.FAILED: "failed",
}
"""Where `SyncRun` counts what became of tenants; of the failed, `cursor` says how many are conflicts."""

MADE = frozenset({Result.CREATED.value, Result.ADOPTED.value})
"""What stays true of a tenant, whatever a repeated slice says: that it found the tenant linked."""

ADD = """
UPDATE sync_runs SET
    created = created + %(created)s, updated = updated + %(updated)s,
    unchanged = unchanged + %(unchanged)s, failed = failed + %(failed)s,
    cursor = cursor || jsonb_build_object(
        'conflict', coalesce((cursor ->> 'conflict')::int, 0) + %(conflict)s,
        'members_refused', coalesce((cursor ->> 'members_refused')::int, 0) + %(members_refused)s)
WHERE id = %(run)s
"""


class MigrationRecord:
    """Counts outcomes and adds them to the run once a second, where no slice keeps them."""

    def __init__(self, lease: Lease) -> None:
        self.run = lease.run
        self._lease = lease
        self.failed = 0
        self._unsaved: Counter[str] = Counter()
        self._problems: list[str] = []
        self._saved_at = time.monotonic()

    @classmethod
    @contextmanager
    def begin(cls, tenants: int) -> Iterator["MigrationRecord"]:
        """Put a new run on record, which this process carries out for as long as the block takes.

        Writes `sync_runs`, as `runs.records.recorded_run`.
        """
        with records.recorded_run(SyncRun.Kind.MIGRATION, tenants=tenants) as lease:
            record = cls(lease)
            try:
                yield record
            finally:
                record.save()
                record.save_problems()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome. Writes `sync_runs` when that is due; raise SyncLost when the run is not ours."""
        kept = _kept(outcome)
        self._unsaved.update(_counted([kept]))
        if outcome.failed:
            self.failed += 1
            self._problems.append(f"{kept['problem']}\n")
        self._lease.check()
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Add what is counted since the last time to the run. Writes `sync_runs`."""
        _add(self.run.pk, self._unsaved)
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def save_problems(self) -> None:
        """Name the tenants that a person must look at. Writes `sync_runs`."""
        if self._problems:
            lines = Value("".join(self._problems))
            SyncRun.objects.filter(pk=self.run.pk).update(error=Concat("error", lines))
        self._problems.clear()

    def finish(self, *, interrupted: bool, error: str) -> SyncRun:
        """Record how the run ended. Writes `sync_runs`."""
        self.save()
        self.save_problems()
        conclude(self.run.pk, interrupted=interrupted, error=error)
        self.run.refresh_from_db()
        return self.run


class SliceRecord:
    """The outcomes of one slice of a run, kept with the slice, so that each tenant counts once.

    A slice is repeated when Clerk failed, or when its worker died: of a tenant, the last outcome
    counts, but nothing takes back that its organization was made. What comes late, when somebody
    else has closed the slice, is not counted.
    """

    def __init__(self, run: SyncRun, part: str, number: int) -> None:
        self._slice = (run.pk, part, number)
        self._unsaved: dict[str, Mapping[str, Any]] = {}
        self._saved_at = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome. Writes the slice and `sync_runs` when that is due."""
        self._unsaved[str(outcome.tenant_id)] = _kept(outcome)
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Keep the outcomes since the last time, and bring the run's counts level, in one transaction."""
        with slices.locked_if_open(*self._slice) as kept:
            if kept is not None and self._unsaved:
                before = _counted(kept.outcomes.values())
                kept.outcomes |= {
                    tenant_id: outcome
                    for tenant_id, outcome in self._unsaved.items()
                    if outcome["result"] in MADE or not _is_made(kept.outcomes.get(tenant_id))
                }
                kept.save(update_fields=["outcomes"])
                change = _counted(kept.outcomes.values())
                change.subtract(before)
                _add(kept.run_id, change)
        self._unsaved.clear()
        self._saved_at = time.monotonic()


def _kept(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a slice keeps it."""
    return {
        "result": outcome.result.value,
        "members_refused": len(outcome.member_problems),
        "problem": f"tenant {outcome.tenant_id}: {outcome.message}" if outcome.failed else "",
    }


def _is_made(kept: Mapping[str, Any] | None) -> bool:
    return kept is not None and kept["result"] in MADE


def _counted(outcomes: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How often each of the counts of `ADD` is met."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts[COLUMNS[Result(outcome["result"])]] += 1
        counts["conflict"] += outcome["result"] == Result.CONFLICT
        counts["members_refused"] += outcome["members_refused"]
    return counts


def _add(run_id: int, counts: Counter[str]) -> None:
    if any(counts.values()):
        names = {*COLUMNS.values(), "conflict", "members_refused"}
        execute(ADD, run=run_id, **{name: counts[name] for name in names})


def conclude(run_id: int, *, interrupted: bool = False, error: str = "") -> None:
    """End a run, whoever did its work: failed when a person must look at anything. Writes `sync_runs`.

    `error` is what ended it early; a run that was interrupted can be gone on with, whatever failed.
    """
    run = SyncRun.objects.get(pk=run_id)
    problems = slices.problems_of(run_id)
    state = SyncRun.State.COMPLETED
    if interrupted and not error:
        state = SyncRun.State.INTERRUPTED
    elif error or run.error or problems or run.failed:
        state = SyncRun.State.FAILED
    running = SyncRun.objects.filter(pk=run_id, state=SyncRun.State.RUNNING)
    running.update(
        state=state, error=Concat("error", Value(problems + error)), finished_at=Now(), lease_expires_at=None
    )


def counts_of(run: SyncRun) -> Mapping[str, int]:
    """What became of the tenants so far, in the words of `Result`, and how many members were refused."""
    conflicts = run.cursor.get("conflict", 0)
    return {
        Result.CREATED.value: run.created,
        Result.ADOPTED.value: run.updated,
        Result.SKIPPED.value: run.unchanged,
        Result.CONFLICT.value: conflicts,
        Result.FAILED.value: run.failed - conflicts,
        "members_refused": run.cursor.get("members_refused", 0),
    }
