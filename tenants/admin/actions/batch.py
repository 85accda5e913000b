"""Run an admin action on each selected tenant and report the results as messages."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from django.contrib import messages
from django.http import HttpRequest

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured, ClerkUnavailable
from clerk_integration.wire.pace import paced
from tenants.exceptions import TenantError
from tenants.models import Tenant
from tenants.runs.failures import FailedAlike, FailureStreak

logger = logging.getLogger(__name__)

BATCH_SECONDS = 20.0
"""No tenant is started after this time: gunicorn ends a request after 30 seconds."""

OUT_OF_TIME = "The time for one request was used up."

MAX_WAIT_SECONDS = 5.0
"""The longest wait for the pace that batches share with creations and migrations."""

STOP_REASONS = {
    ClerkUnavailable: "Clerk is unavailable.",
    ClerkMisconfigured: "The connection to Clerk is misconfigured.",
}
"""Errors that would occur for every other tenant, too."""


@dataclass
class Outcome:
    """The result of a batch; `not_tried` is the number of tenants left when the batch stopped."""

    done: int = 0
    failures: list[str] = field(default_factory=list)
    not_tried: int = 0
    stop_reason: str = ""


def run_batch(
    selected: Iterable[Tenant], step: Callable[[Tenant], object], *, seconds: float = BATCH_SECONDS
) -> Outcome:
    """Call `step` for each tenant in turn and return the outcome.

    Requests to Clerk are paced. An error is a failure of its tenant only. The batch stops at an error of
    STOP_REASONS, after several unexpected errors of one kind in a row, and after `seconds`.
    """
    waiting, outcome, streak = deque(selected), Outcome(), FailureStreak()
    end = time.monotonic() + seconds
    while waiting and not outcome.stop_reason:
        if time.monotonic() >= end:
            outcome.stop_reason = OUT_OF_TIME
            break
        tenant = waiting.popleft()
        try:
            with paced(max_wait=MAX_WAIT_SECONDS):
                step(tenant)
            outcome.done += 1
            streak.add("", kind="", message="")
        except Exception as error:
            _record_failure(outcome, streak, tenant, error)
    outcome.not_tried = len(waiting)
    return outcome


def _record_failure(outcome: Outcome, streak: FailureStreak, tenant: Tenant, error: Exception) -> None:
    name, kind, message = f"{tenant} (tenant {tenant.pk})", "", str(error)
    if not isinstance(error, TenantError | ClerkError):
        logger.exception("admin action failed for tenant %s", tenant.pk)
        kind = type(error).__name__
        message = f"unexpected error {kind}; the log has the details."
    outcome.failures.append(f"{name}: {message}")
    reasons = (reason for cause, reason in STOP_REASONS.items() if isinstance(error, cause))
    outcome.stop_reason = next(reasons, "")
    try:
        streak.add(name, kind=kind, message=message)
    except FailedAlike:
        outcome.stop_reason = "Several tenants in a row failed with the same unexpected error."


def report(request: HttpRequest, outcome: Outcome, *, done: str) -> None:
    """Add a message with the number of tenants that are `done`, and one message for each failure."""
    if outcome.done:
        messages.success(request, f"{_count(outcome.done)} {done}.")
    for failure in outcome.failures:
        messages.error(request, failure)
    if outcome.stop_reason:
        rest = f" {_count(outcome.not_tried)} not tried." if outcome.not_tried else ""
        hint = "Select the remaining tenants again later: nothing is done twice."
        messages.warning(request, f"{outcome.stop_reason}{rest} {hint}")


def _count(tenants: int) -> str:
    return "1 tenant" if tenants == 1 else f"{tenants} tenants"
