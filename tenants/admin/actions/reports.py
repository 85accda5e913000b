"""Carry out a step for the selected tenants and show the report as messages."""

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.batches.run import MAX_TENANTS, Report, carry_out
from tenants.batches.steps import STEPS
from tenants.models import Tenant


def carry_out_step(request: HttpRequest, key: str, tenants: QuerySet[Tenant]) -> None:
    """Carry out the step for the first MAX_TENANTS tenants, and add messages with the report."""
    step, selected = STEPS[key], tenants.count()
    report = carry_out(step, tenants[:MAX_TENANTS], acting_user=request.user)
    report.not_tried += max(0, selected - MAX_TENANTS)
    show(request, report, done=step.done)


def show(request: HttpRequest, report: Report, *, done: str) -> None:
    """Add messages: how many tenants are `done` or do not apply, each failure, and what was not tried."""
    if report.done:
        messages.success(request, f"{_count(report.done)} {done}.")
    for reason, number in report.not_applicable.items():
        messages.info(request, f"{_count(number)} skipped: {reason}.")
    for failure in report.failures:
        messages.error(request, f"{failure.name} (tenant {failure.tenant_id}): {failure.reason}")
    if report.stop_reason or report.not_tried:
        rest = f"{_count(report.not_tried)} not tried." if report.not_tried else ""
        sentences = (report.stop_reason, rest, "Select the remaining tenants again later.")
        messages.warning(request, " ".join(filter(None, sentences)))


def _count(tenants: int) -> str:
    return "1 tenant" if tenants == 1 else f"{tenants} tenants"
