"""One step for each selected tenant, and what is said about it afterwards."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from django.contrib import messages
from django.http import HttpRequest

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured, ClerkUnavailable
from tenants.exceptions import TenantError
from tenants.models import Tenant

BATCH_SECONDS = 20.0
"""After this no further tenant is begun: the request must end before its web server ends it (30 s)."""

TIME_IS_OVER = "There was no time for more."

HOPELESS = {
    ClerkUnavailable: "Clerk is unavailable.",
    ClerkMisconfigured: "The connection to Clerk is misconfigured.",
}
"""What every further tenant would meet as well, each after a wait of its own."""


@dataclass
class Outcome:
    """What became of a selection: each tenant is done, failed or, after `stopped` says why, not tried."""

    done: int = 0
    failures: list[str] = field(default_factory=list)
    not_tried: int = 0
    stopped: str = ""


def run_in_order(
    selected: Iterable[Tenant], step: Callable[[Tenant], object], *, seconds: float = BATCH_SECONDS
) -> Outcome:
    """Call `step` for one tenant after the other and collect what is wrong with some of them.

    Stops at the first failure that is not the tenant's own (Clerk unavailable or misconfigured) and
    when `seconds` are over. Only TenantError and ClerkError are failures; anything else is raised.
    """
    waiting = deque(selected)
    outcome = Outcome()
    end = time.monotonic() + seconds
    while waiting and not outcome.stopped:
        if time.monotonic() < end:
            _run(waiting.popleft(), step, outcome)
        else:
            outcome.stopped = TIME_IS_OVER
    outcome.not_tried = len(waiting)
    return outcome


def _run(tenant: Tenant, step: Callable[[Tenant], object], outcome: Outcome) -> None:
    try:
        step(tenant)
    except (TenantError, ClerkError) as error:
        outcome.failures.append(f"{tenant} (tenant {tenant.pk}): {error}")
        reasons = (reason for kind, reason in HOPELESS.items() if isinstance(error, kind))
        outcome.stopped = next(reasons, "")
    else:
        outcome.done += 1


def report(request: HttpRequest, outcome: Outcome, *, done: str) -> None:
    """Tell the user in one message how many tenants are `done`, and in one line each what failed."""
    if outcome.done:
        messages.success(request, f"{_count(outcome.done)} {done}.")
    for failure in outcome.failures:
        messages.error(request, failure)
    if outcome.stopped:
        rest = f" {_count(outcome.not_tried)} not tried." if outcome.not_tried else ""
        hint = "Select what is left again later: nothing is done twice."
        messages.warning(request, f"{outcome.stopped}{rest} {hint}")


def _count(tenants: int) -> str:
    return "1 tenant" if tenants == 1 else f"{tenants} tenants"
