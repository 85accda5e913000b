"""Carry out the slices of a batch in workers; cancel a batch, and resume it.

The outcome of each tenant is stored with its slice, so that a repeated job continues after the last one:

| result           | meaning                                              | when the batch is resumed |
| ---------------- | ---------------------------------------------------- | ------------------------- |
| `done`           | the step was carried out                             | kept                      |
| `not_applicable` | the step does not apply to the tenant; see `reason`  | kept                      |
| `failed`         | see `reason`                                         | tried again               |
| none             | not tried yet                                        | tried                     |
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.db.models import F
from django.db.models.functions import Now

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.exceptions import ClerkMisconfigured, ClerkRateLimited
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.pace import paced
from tenants.backfill.run import OUTAGES
from tenants.backfill.step import RATE_LIMIT_TRIES
from tenants.batches.failures import FAILED_ALIKE, MISCONFIGURED, kind_of, reason_of
from tenants.batches.steps import STEPS, Step
from tenants.exceptions import SyncLost
from tenants.models import SyncRun, SyncRunSlice, Tenant, TenantHistory
from tenants.runs import slices
from tenants.runs.failures import FailedAlike, FailureStreak
from tenants.runs.leases import held_runs, lost
from tenants.runs.records import WORKERS

logger = logging.getLogger(__name__)

TENANTS = "tenants"
"""The only part of a batch."""

SLICE = 20
"""Number of tenants in one job: for a test key of Clerk, some seconds of work."""

BATCH_SLICE = "tenants.tasks.batch_slice"

DONE, NOT_APPLICABLE, FAILED = "done", "not_applicable", "failed"

COLUMNS = {DONE: "updated", NOT_APPLICABLE: "unchanged", FAILED: "failed"}
"""The column of `SyncRun` that counts each result."""

GONE = "deleted since the batch was started"
RELINKED = "linked to Clerk since the batch was started"

RESUME = "Resume the run to try the tenants that are left or failed."
"""What to do now, at the end of an error."""


class BatchStopped(Exception):
    """Every other tenant would fail, too. The message is for staff."""


def set_actor(run: SyncRun, acting_user: Any) -> None:
    """Record the user who started or resumed the batch in `run`; None is the system. Write nothing."""
    run.cursor["user"] = None if acting_user is None else str(acting_user.pk)
    run.started_by = "" if acting_user is None else acting_user.get_username()
    run.save(update_fields=["cursor", "started_by"])


def hand_out(run: SyncRun) -> None:
    """Put a job for each open slice on the queue, or end the run if there is none."""
    # A new holder, so that a job of an earlier start stops.
    slices.hand_out(run, TENANTS, BATCH_SLICE, holder=f"{WORKERS}, {uuid4()}")
    if not run.slices.filter(closed_at=None).exists():
        _conclude(run)


def carry_slice(run_id: int, number: int) -> None:
    """Do the job of one slice. A repeated job continues with the tenants that are left.

    Do nothing if the run has ended. If every tenant would fail, end the run; if the reason is an outage,
    raise FailedAlike or ClerkUnavailable, so that the worker tries the job again later.
    """
    run = SyncRun.objects.get(pk=run_id)
    if run.state != SyncRun.State.RUNNING:
        return
    try:
        if slices.carry_one(run, TENANTS, number, partial(_carry, run)):
            _conclude(run)
    except SyncLost as stopped:
        logger.info("%s", stopped)
    except BatchStopped as stopped:
        _end(run, SyncRun.State.FAILED, f"{stopped} {RESUME}")


def _carry(run: SyncRun, piece: SyncRunSlice) -> None:
    step, user = STEPS[run.cursor["step"]], _actor(run)
    tenants = _tenants_left(run, piece, step)
    if not tenants:
        return
    try:
        with paced():
            prepared = step.prepare([tenant.pk for tenant in tenants])
    except ClerkMisconfigured as error:
        raise BatchStopped(f"{MISCONFIGURED} {error}") from error
    call = partial(step.run, acting_user=user, options={**run.cursor["options"], **prepared})
    streak = FailureStreak()
    for tenant in tenants:
        if not held_runs(run).exists():
            raise lost(run)
        _carry_one(piece, tenant, call, streak)


def _tenants_left(run: SyncRun, piece: SyncRunSlice, step: Step) -> list[Tenant]:
    """Return the tenants to carry out the step for; record the others as not applicable."""
    ids = [tenant_id for tenant_id in piece.arguments["ids"] if not _is_settled(piece, tenant_id)]
    found = Tenant.objects.in_bulk(ids)
    reasons = {tenant_id: GONE for tenant_id in ids if tenant_id not in found}
    if not step.keeps_organization:
        reasons |= dict.fromkeys(_linked_since(run, list(found)), RELINKED)
    reasons |= {tenant.pk: reason for tenant in found.values() if (reason := step.why_not(tenant))}
    if reasons:
        _record(piece, {key: {"result": NOT_APPLICABLE, "reason": reason} for key, reason in reasons.items()})
    return [found[tenant_id] for tenant_id in ids if tenant_id not in reasons]


def _linked_since(run: SyncRun, tenant_ids: Sequence[int]) -> set[int]:
    """Return the tenants that were linked since the run was started, to organizations unknown to its user."""
    links = TenantHistory.objects.filter(action=TenantHistory.Action.LINKED, at__gt=run.started_at)
    return set(links.filter(tenant_id__in=tenant_ids).values_list("tenant_id", flat=True))


def _carry_one(
    piece: SyncRunSlice, tenant: Tenant, call: Callable[[Tenant], object], streak: FailureStreak
) -> None:
    """Carry out the step for one tenant, and record the outcome. Raise BatchStopped and FailedAlike."""
    tenant_id, name = tenant.pk, str(tenant)
    try:
        _retry_rate_limited(partial(call, tenant))
    except Exception as error:
        reason = reason_of(error, tenant)
        _record(piece, {tenant_id: {"result": FAILED, "reason": reason, "name": name}})
        if isinstance(error, ClerkMisconfigured):
            raise BatchStopped(f"{MISCONFIGURED} {error}") from error
        _count_failure(streak, f"tenant {tenant_id}", kind_of(error), reason)
    else:
        _record(piece, {tenant_id: {"result": DONE}})
        streak.add("", kind="", message="")


def _retry_rate_limited(call: Callable[[], object]) -> None:
    """Call. After a 429 Clerk has done nothing, so call again when the shared pace allows it."""
    for tries_left in reversed(range(RATE_LIMIT_TRIES)):
        try:
            with paced(), clerk_deadline(JOB_TIMEOUT_SECONDS):
                call()
        except ClerkRateLimited:
            if not tries_left:
                raise
        else:
            return


def _count_failure(streak: FailureStreak, item: str, kind: str, reason: str) -> None:
    try:
        streak.add(item, kind=kind, message=reason)
    except FailedAlike as failure:
        if kind in OUTAGES:
            raise
        raise BatchStopped(f"{FAILED_ALIKE} {failure}") from failure


def _record(piece: SyncRunSlice, outcomes: Mapping[int, Mapping[str, str]]) -> None:
    """Store the outcomes with the slice, and count them in the run. A settled outcome stays."""
    with slices.locked(piece) as locked:
        changes = dict.fromkeys(COLUMNS.values(), 0)
        for tenant_id, outcome in outcomes.items():
            if _is_settled(locked, tenant_id):
                continue
            earlier = locked.outcomes.get(str(tenant_id))
            if earlier is not None:
                changes[COLUMNS[earlier["result"]]] -= 1
            changes[COLUMNS[outcome["result"]]] += 1
            locked.outcomes[str(tenant_id)] = outcome
        locked.save(update_fields=["outcomes"])
        counts = {column: F(column) + change for column, change in changes.items() if change}
        if counts:
            SyncRun.objects.filter(pk=locked.run_id).update(**counts)


def _is_settled(piece: SyncRunSlice, tenant_id: int) -> bool:
    outcome = piece.outcomes.get(str(tenant_id))
    return outcome is not None and outcome["result"] != FAILED


def _actor(run: SyncRun) -> Any:
    """Return the user for whom the batch runs; raise BatchStopped if the user may not do this any more."""
    if run.cursor["user"] is None:
        return None
    user: Any = get_user_model()._default_manager.filter(pk=run.cursor["user"]).first()
    permission = STEPS[run.cursor["step"]].permission
    is_staff = user is not None and user.is_active and getattr(user, "is_staff", False)
    if not (is_staff and user.has_perm(permission)):
        raise BatchStopped(f"{run.started_by or 'The user'} may not do this any more.")
    return user


def _conclude(run: SyncRun) -> None:
    """End the run after its last slice, as failed if a tenant failed."""
    run.refresh_from_db(fields=["failed"])
    if not run.failed:
        _end(run, SyncRun.State.COMPLETED, "")
        return
    failed = "1 tenant" if run.failed == 1 else f"{run.failed} tenants"
    _end(run, SyncRun.State.FAILED, f"{failed} failed; the others are done. {RESUME}")


def _end(run: SyncRun, state: SyncRun.State, error: str) -> None:
    held_runs(run).update(state=state, error=error, finished_at=Now(), lease_expires_at=None)
    run.refresh_from_db()
