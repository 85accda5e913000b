"""The dry run: compare everything with Clerk, and record what a full sync would change."""

from collections.abc import Callable
from threading import Event

from django.db.models.functions import Now

from tenants.exceptions import SyncInterrupted
from tenants.models import SyncRun, SyncRunSlice
from tenants.reconcile.differences import Comparison, Difference, compare_with_clerk
from tenants.reconcile.progress import Progress
from tenants.runs.leases import Lease, held_runs
from tenants.runs.records import recorded_run

RECORD_DRY_RUN = "tenants.tasks.record_dry_run"
"""The name of the job."""

PART = "differences"

ORGANIZATIONS_OF_SLICE = 500
"""Number of organizations whose differences are kept in memory and stored in one row."""

LINES_OF_ORGANIZATION = 5
MAX_LINE = 500
"""What is stored of an organization's differences in one slice: so many lines, each of so many characters."""


def dry_run(
    report: Callable[[Difference], None],
    *,
    skip_memberships: bool = False,
    progress: Progress | None = None,
    stopping: Event | None = None,
    started_by: str = "",
) -> tuple[SyncRun, Comparison]:
    """Compare as `compare_with_clerk` does, and record the result; return the run and the numbers.

    The outcomes of the run are keyed by organization id. Its counts are those of a full sync: `created` is
    missing from the mirror, `updated` differs, `retired` is missing from Clerk, `failed` is unreadable. Write
    only `sync_runs` and `sync_run_slices`; an exception ends the run as failed, or as interrupted after
    `stopping` is set. Raise what `compare_with_clerk` raises.
    """
    with recorded_run(
        SyncRun.Kind.DRY_RUN, started_by=started_by, skip_memberships=skip_memberships
    ) as lease:
        found = _Found(lease)

        def record(difference: Difference) -> None:
            found.add(difference)
            report(difference)

        try:
            comparison = compare_with_clerk(
                record, skip_memberships=skip_memberships, progress=progress, stopping=stopping
            )
        except SyncInterrupted as error:
            _end(lease.run, SyncRun.State.INTERRUPTED, error=str(error))
            raise
        found.store()
        _end(
            lease.run,
            SyncRun.State.COMPLETED,
            created=comparison.missing_from_mirror,
            updated=comparison.changed + comparison.recorded_as_deleted,
            unchanged=comparison.unchanged,
            retired=comparison.missing_from_clerk,
            failed=comparison.skipped,
        )
    lease.run.refresh_from_db()
    return lease.run, comparison


class _Found:
    """The differences found since the last slice was stored, by organization."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._slices = 0
        self._lines: dict[str, list[str]] = {}

    def add(self, difference: Difference) -> None:
        self._lines.setdefault(difference.clerk_org_id, []).append(str(difference)[:MAX_LINE])
        if len(self._lines) == ORGANIZATIONS_OF_SLICE:
            self.store()

    def store(self) -> None:
        """Store the differences as a slice of the run. Raise SyncLost if the run was taken over."""
        self._lease.check()
        if self._lines:
            outcomes = {
                clerk_org_id: {"problem": _problem(lines)} for clerk_org_id, lines in self._lines.items()
            }
            SyncRunSlice.objects.create(
                run=self._lease.run, part=PART, number=self._slices, outcomes=outcomes, closed_at=Now()
            )
        self._slices += 1
        self._lines = {}


def _problem(lines: list[str]) -> str:
    left = len(lines) - LINES_OF_ORGANIZATION
    more = [f"and {left} more {'difference' if left == 1 else 'differences'}"] if left > 0 else []
    return "; ".join(lines[:LINES_OF_ORGANIZATION] + more)


def _end(run: SyncRun, state: SyncRun.State, **columns: int | str) -> None:
    held_runs(run).update(state=state, finished_at=Now(), lease_expires_at=None, **columns)
