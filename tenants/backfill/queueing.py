"""A plan in slices for any number of workers: the same steps, the same pace, one run on record."""

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from procrastinate.types import JSONDict

from tenants.backfill.organization import Draft
from tenants.backfill.plan import Action, Plan, PlanRow
from tenants.backfill.record import MigrationRecord, SliceRecord, conclude
from tenants.backfill.run import Report, carry_out
from tenants.backfill.snapshot import SharedSnapshot
from tenants.backfill.step import migrate
from tenants.models import SyncRun, SyncRunSlice
from tenants.runs import slices

SLICE = 25
"""Tenants in one job: some seconds of work at Clerk's limit for live keys, ten times that for test keys."""

CONCURRENCY = 4
"""Tenants that one job has in flight; the pace is shared by all jobs anyway."""

MIGRATE_SLICE = "tenants.tasks.migrate_slice"

PART = "tenants"


def enqueue(plan: Plan, *, report: Report) -> SyncRun:
    """Put the plan's work on the queue in slices; return the run that shows how far it is.

    What needs no work (conflicts, tenants that are linked) is recorded at once, and `report` hears of
    it. Writes `sync_runs` and the jobs.
    """
    work = [row for row in plan.rows if row.draft is not None]
    cut = [work[start : start + SLICE] for start in range(0, len(work), SLICE)]
    with MigrationRecord.begin(len(plan.rows)) as record:
        for row in plan.rows:
            if row.draft is None:
                outcome = migrate(row, SharedSnapshot([]))
                record.add(outcome)
                report(outcome)
        record.save()
        record.save_problems()
        arguments: list[JSONDict] = [{"rows": [_packed(row) for row in rows]} for rows in cut]
        slices.plan(record.run, PART, arguments)
        slices.hand_out(record.run, PART, MIGRATE_SLICE)
        if not work:
            conclude(record.run.pk)
    record.run.refresh_from_db()
    return record.run


def migrate_slice(run_id: int, part: str, number: int) -> None:
    """Carry out one slice of a plan; repeated, it does what is left, and each tenant counts once.

    Writes and calls Clerk as the steps do; writes the slice's outcomes and `sync_runs`. Raise
    ClerkError and ClerkIsDown.
    """
    run = SyncRun.objects.get(pk=run_id)
    if slices.carry_one(run, part, number, _migrate):
        conclude(run_id)


def _migrate(piece: SyncRunSlice) -> None:
    record = SliceRecord(piece.run, piece.part, piece.number)
    try:
        carry_out(
            Plan([_unpacked(row) for row in piece.arguments["rows"]]),
            concurrency=CONCURRENCY,
            stopping=threading.Event(),
            report=record.add,
            note=lambda line: None,
        )
    finally:
        record.save()


def _packed(row: PlanRow) -> dict[str, Any]:
    draft = None if row.draft is None else asdict(row.draft)
    return {
        "name": row.name,
        "action": row.action.value,
        "draft": draft,
        "organization_id": row.organization_id,
    }


def _unpacked(packed: Mapping[str, Any]) -> PlanRow:
    draft = Draft(**packed["draft"])
    action = Action(packed["action"])
    return PlanRow(draft.tenant_id, packed["name"], action, "", draft, packed["organization_id"])
