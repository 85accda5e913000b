"""A migration on record: one `SyncRun`, however many processes work at it."""

import time
from collections import Counter
from collections.abc import Mapping

from django.db.models import Value
from django.db.models.functions import Concat, Now

from tenants import runs
from tenants.backfill.step import Outcome, Result
from tenants.cursors import execute
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
"""Where `SyncRun` counts what became of tenants; of the failed, `cursor` says how many are conflicts."""

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
    """Counts outcomes and adds them to the run once a second; other processes may add to it as well."""

    def __init__(self, run: SyncRun) -> None:
        self.run = run
        self.failed = 0
        self._unsaved: Counter[str] = Counter()
        self._problems: list[str] = []
        self._saved_at = time.monotonic()

    @classmethod
    def begin(cls, tenants: int) -> "MigrationRecord":
        """Put a new run on record. Writes `sync_runs`."""
        run = SyncRun.objects.create(
            kind=SyncRun.Kind.MIGRATION, holder=runs.this_process(), cursor={"tenants": tenants}
        )
        return cls(run)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome. Writes `sync_runs` when that is due."""
        self._unsaved[COLUMNS[outcome.result]] += 1
        self._unsaved["conflict"] += outcome.result is Result.CONFLICT
        self._unsaved["members_refused"] += len(outcome.member_problems)
        if outcome.failed:
            self.failed += 1
            self._problems.append(f"tenant {outcome.tenant_id}: {outcome.message}\n")
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Add what is counted since the last time to the run. Writes `sync_runs`."""
        if self._unsaved:
            names = {*COLUMNS.values(), "conflict", "members_refused"}
            execute(ADD, run=self.run.pk, **{name: self._unsaved[name] for name in names})
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def save_problems(self) -> None:
        """Name the tenants that a person must look at. Writes `sync_runs`.

        Apart from the counts: a slice that is tried again would name them twice.
        """
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


def conclude(run_id: int, *, interrupted: bool = False, error: str = "") -> None:
    """End a run, whoever did its work: failed when a person must look at anything. Writes `sync_runs`.

    `error` is what ended it early; a run that was interrupted can be gone on with, whatever failed.
    """
    run = SyncRun.objects.get(pk=run_id)
    state = SyncRun.State.COMPLETED
    if interrupted and not error:
        state = SyncRun.State.INTERRUPTED
    elif error or run.error or run.failed:
        state = SyncRun.State.FAILED
    running = SyncRun.objects.filter(pk=run_id, state=SyncRun.State.RUNNING)
    running.update(state=state, error=Concat("error", Value(error)), finished_at=Now())


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
