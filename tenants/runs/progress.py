"""Report how far a run is."""

from dataclasses import dataclass

from tenants.models import SyncRun
from tenants.runs import pages


@dataclass(frozen=True, slots=True)
class Reading:
    """The progress of a run: `done` of `total` items, 0 if the total is unknown; `label` names the items."""

    label: str
    done: int
    total: int


def read_progress(run: SyncRun) -> Reading:
    """Return the progress of a run of any kind. Run at most two statements.

    An earlier full sync than the last has no pages any more, and so no progress.
    """
    if run.kind == SyncRun.Kind.FULL_SYNC:
        has_memberships = run.pages.filter(listing="memberships").exists()
        listing = "memberships" if has_memberships else "organizations"
        read, total = pages.count_read(run, listing)
        return Reading(listing, min(read, total), total)
    done = run.created + run.updated + run.unchanged + run.retired + run.failed
    label = "tenants" if run.kind in (SyncRun.Kind.MIGRATION, SyncRun.Kind.BATCH) else "records"
    return Reading(label, done, run.cursor.get("tenants", 0))
