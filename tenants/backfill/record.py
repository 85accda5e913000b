"""A migration on record: one `SyncRun`, however many processes work at it."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from django.db.models import F, Value
from django.db.models.functions import Concat, Now

from tenants import runs
from tenants.backfill.step import Outcome, Result
from tenants.models import SyncRun

SAVE_SECONDS = 1.0
"""How far the counts in the database may lag behind."""

COLUMNS = {
    Result.CREATED: "created",
    Result.ADOPTED: "updated",
    Result.SKIPPED: "unchanged",
    Result.CONFLICT: "failed",
    Result.FAILED: "failed",
}
"""Where `SyncRun` counts what became of tenants."""


class MigrationRecord:
    """Counts outcomes and adds them to the run once a second; other processes may add to it as well."""

    def __init__(self, run: SyncRun) -> None:
        self.run = run
        self.failed = 0
        self._results: Counter[str] = Counter()
        self._unsaved: Counter[str] = Counter()
        self._member_problems = 0
        self._saved_at = time.monotonic()

    @classmethod
    def begin(cls, tenants: int) -> "MigrationRecord":
        """Put a new run on record. Writes `sync_runs`."""
        run = SyncRun.objects.create(
            kind=SyncRun.Kind.MIGRATION, holder=runs.this_process(), cursor={"tenants": tenants}
        )
        return cls(run)

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of the tenants so far, and how many members were refused."""
        results = {result.value: self._results[result] for result in COLUMNS}
        return {**results, "members_refused": self._member_problems}

    def add(self, outcome: Outcome) -> None:
        """Count an outcome. Writes `sync_runs` when that is due."""
        self.failed += outcome.failed
        self._results[outcome.result] += 1
        self._member_problems += len(outcome.member_problems)
        self._unsaved[COLUMNS[outcome.result]] += 1
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Add what is counted since the last time to the run. Writes `sync_runs`."""
        changes = {column: F(column) + number for column, number in self._unsaved.items()}
        if changes:
            SyncRun.objects.filter(pk=self.run.pk).update(**changes)
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def add_problems(self, problems: Sequence[str]) -> None:
        """Record what a person must look at. Writes `sync_runs`."""
        if problems:
            lines = Value("\n".join(problems) + "\n")
            SyncRun.objects.filter(pk=self.run.pk).update(error=Concat("error", lines))

    def finish(self, *, interrupted: bool, error: str) -> SyncRun:
        """Record how the run ended. Writes `sync_runs`."""
        self.save()
        state = SyncRun.State.COMPLETED
        if error:
            state = SyncRun.State.FAILED
        elif interrupted:
            state = SyncRun.State.INTERRUPTED
        SyncRun.objects.filter(pk=self.run.pk).update(state=state, error=error, finished_at=Now())
        self.run.refresh_from_db()
        return self.run


def conclude(run_id: int) -> None:
    """End a run whose slices are all closed. Writes `sync_runs`."""
    run = SyncRun.objects.get(pk=run_id)
    state = SyncRun.State.FAILED if run.error or run.failed else SyncRun.State.COMPLETED
    running = SyncRun.objects.filter(pk=run_id, state=SyncRun.State.RUNNING)
    running.update(state=state, finished_at=Now())
