"""Describe a run to staff and operators: its title, its counts, and how long it took."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from clerk_integration.times import age_of, in_utc
from tenants.batches.steps import STEPS
from tenants.models import SyncRun

Kind = SyncRun.Kind

COUNTS: Mapping[str, Mapping[str, str]] = {
    Kind.FULL_SYNC: {
        "created": "created",
        "updated": "updated",
        "unchanged": "unchanged",
        "retired": "retired",
        "failed": "unreadable",
    },
    Kind.DRY_RUN: {
        "created": "missing from the mirror",
        "updated": "different",
        "unchanged": "equal",
        "retired": "missing from Clerk",
        "failed": "unreadable",
    },
    Kind.MIGRATION: {
        "created": "created",
        "updated": "adopted",
        "unchanged": "skipped",
        "failed": "failed",
    },
    Kind.IMPORT: {"created": "created", "unchanged": "unchanged"},
    Kind.LINK: {"created": "linked", "failed": "failed"},
    Kind.BATCH: {"updated": "done", "unchanged": "skipped", "failed": "failed"},
}
"""What each column counts in a run of each kind, in the order of display."""


def title_of(run: SyncRun) -> str:
    """Return the kind of the run and, for a batch, its step."""
    if run.kind != Kind.BATCH:
        return str(run.get_kind_display())
    key = str(run.cursor.get("step", ""))
    return f"Batch: {STEPS[key].label if key in STEPS else key}"


def counts_of(run: SyncRun) -> dict[str, int]:
    """Return the counts of the run by label, with the number of items that are left if it is known."""
    counts = {label: getattr(run, column) for column, label in COUNTS[run.kind].items()}
    if "tenants" in run.cursor:
        counts["not tried"] = max(0, run.cursor["tenants"] - sum(counts.values()))
    return counts


def short_counts_of(run: SyncRun) -> str:
    """Return the counts that are not zero in one line."""
    return ", ".join(f"{number:,} {label}" for label, number in counts_of(run).items() if number)


def starter_of(run: SyncRun) -> str:
    """Return who started the run: a user, or the process of a command."""
    return run.started_by or run.holder


def duration_of(run: SyncRun) -> timedelta:
    """Return how long the run took, or has taken so far, in whole seconds."""
    taken = run.finished_at - run.started_at if run.finished_at else age_of(run.started_at)
    return timedelta(seconds=round(max(0.0, taken.total_seconds())))


def summary_of(run: SyncRun) -> dict[str, Any]:
    """Return the run as a mapping that JSON can store."""
    return {
        "run": run.pk,
        "kind": run.kind,
        "title": title_of(run),
        "state": run.state,
        "started_by": starter_of(run),
        "started_at": in_utc(run.started_at).isoformat(),
        "finished_at": run.finished_at and in_utc(run.finished_at).isoformat(),
        **{label.replace(" ", "_"): number for label, number in counts_of(run).items()},
    }
