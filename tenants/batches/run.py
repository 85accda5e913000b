"""Carry out a step for selected tenants: a few of them in the request, many of them by workers."""

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, QuerySet

from clerk_integration.exceptions import ClerkError
from clerk_integration.wire.deadlines import default_deadline
from clerk_integration.wire.pace import paced
from tenants.batches import jobs
from tenants.batches.failures import FAILED_ALIKE, kind_of, reason_of, stop_reason
from tenants.batches.steps import Options, Step
from tenants.models import Membership, SyncRun, Tenant
from tenants.runs import slices
from tenants.runs.failures import FailedAlike, FailureStreak
from tenants.runs.records import recorded_run

MAX_TENANTS = 20
"""Number of tenants of one request; more are left to the workers."""

MAX_MEMBERS = 500
"""Number of members of an organization that a request reads from Clerk: one page."""

BATCH_SECONDS = 15.0
"""No tenant is started after this time: gunicorn ends a request after 30 seconds."""

MAX_WAIT_SECONDS = 5.0
"""The longest wait for the pace that batches share with creations and migrations."""

OUT_OF_TIME = "The time for one request was used up."


@dataclass(frozen=True, slots=True)
class Failure:
    """A tenant for which the step failed, and the reason; nothing is known of the tenant's state."""

    tenant_id: int
    name: str
    reason: str


@dataclass
class Report:
    """The result of a batch. Each selected tenant is counted in exactly one of the four groups.

    `not_applicable` counts tenants by the reason why the step does not apply. `not_tried` is the number of
    tenants that were left when the batch stopped, and `stop_reason` says why it stopped.
    """

    done: int = 0
    not_applicable: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    not_tried: int = 0
    stop_reason: str = ""


def needs_workers(step: Step, tenants: QuerySet[Tenant]) -> bool:
    """Return whether the selection is too large for a request: many tenants, or an organization with many
    members that the step reads from Clerk. Runs two statements.
    """
    ids = list(tenants.order_by().values_list("pk", flat=True)[: MAX_TENANTS + 1])
    if len(ids) > MAX_TENANTS:
        return True
    sizes = Membership.objects.filter(tenant__in=ids).order_by().values("tenant").annotate(size=Count("pk"))
    return step.lists_members and sizes.filter(size__gt=MAX_MEMBERS).exists()


def carry_out(
    step: Step,
    tenants: Iterable[Tenant],
    *,
    acting_user: Any,
    options: Options | None = None,
    seconds: float = BATCH_SECONDS,
) -> Report:
    """Carry out the step for each tenant in turn, in this request, and return the report.

    Requests to Clerk are paced. An error is a failure of its tenant only. The batch stops at an error that
    every other tenant would meet, after several unexpected errors of one kind in a row, and after `seconds`.
    Raise ValueError for more than MAX_TENANTS tenants.
    """
    waiting, report, streak = deque(tenants), Report(), FailureStreak()
    if len(waiting) > MAX_TENANTS:
        raise ValueError(f"{len(waiting)} tenants are too many for one request; start a run of workers.")
    end = time.monotonic() + seconds
    try:
        given: Options = {**(options or {}), **_prepared(step, waiting)}
    except ClerkError as error:
        report.stop_reason = str(error)
    while waiting and not report.stop_reason:
        if time.monotonic() >= end:
            report.stop_reason = OUT_OF_TIME
            break
        tenant = waiting.popleft()
        if reason := step.why_not(tenant):
            report.not_applicable[reason] += 1
            continue
        name = str(tenant)
        try:
            with paced(max_wait=MAX_WAIT_SECONDS):
                step.run(tenant, acting_user=acting_user, options=given)
            report.done += 1
            streak.add("", kind="", message="")
        except Exception as error:
            _record_failure(report, streak, Failure(tenant.pk, name, reason_of(error, tenant)), error)
    report.not_tried = len(waiting)
    return report


def start(
    step: Step, tenants: QuerySet[Tenant], *, acting_user: Any, options: Options | None = None
) -> SyncRun:
    """Leave the step to the workers, for each tenant of the queryset, and return the run.

    The database selects the tenants, so that any number of them takes no memory here. Write `sync_runs`,
    `sync_run_slices` and the jobs.
    """
    with recorded_run(SyncRun.Kind.BATCH, step=step.key, options=dict(options or {})) as lease:
        jobs.set_actor(lease.run, acting_user)
        lease.run.cursor["tenants"] = slices.plan_rows(lease.run, jobs.TENANTS, tenants, size=jobs.SLICE)
        lease.run.save(update_fields=["cursor"])
        jobs.hand_out(lease.run)
    return lease.run


def _prepared(step: Step, tenants: Iterable[Tenant]) -> Options:
    ids = [tenant.pk for tenant in tenants if not step.why_not(tenant)]
    with default_deadline(), paced(max_wait=MAX_WAIT_SECONDS):
        return step.prepare(ids) if ids else {}


def _record_failure(report: Report, streak: FailureStreak, failure: Failure, error: Exception) -> None:
    report.failures.append(failure)
    report.stop_reason = stop_reason(error)
    try:
        streak.add(f"tenant {failure.tenant_id}", kind=kind_of(error), message=failure.reason)
    except FailedAlike:
        report.stop_reason = FAILED_ALIKE
