"""Finish the creations of organizations for legacy tenants that were interrupted and not started again."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from clerk_integration.wire.pace import paced
from tenants.backfill.attempts import tenant_of, unfinished_attempts
from tenants.backfill.plan import PlanRow, make_plan
from tenants.backfill.snapshot import LazySnapshot
from tenants.backfill.step import Outcome, migrate
from tenants.creation.search import is_due
from tenants.mirror import writer
from tenants.models import CreationAttempt, Tenant, TenantHistory

logger = logging.getLogger(__name__)

MAX_AGE = timedelta(days=1)
"""Older attempts are left to the operator; `migrate_tenants_to_clerk` prints why each attempt fails."""


def finish_abandoned() -> int:
    """Finish what was begun for tenants with an unfinished attempt; return the number of these tenants.

    Consider only attempts that are due (`creation.search.is_due`) and younger than MAX_AGE, of tenants that
    were not unlinked since. Write the same rows and send the same requests as `step.migrate`, but add only
    the members that the attempt was to add. Raise ClerkError.
    """
    now = writer.clock()
    attempts = _not_unlinked(
        [
            attempt
            for attempt in unfinished_attempts()
            if is_due(attempt, now) and attempt.created_at > now - MAX_AGE
        ]
    )
    ids = list(Tenant.objects.filter(pk__in=attempts).values_list("pk", flat=True))
    if ids:
        snapshot = LazySnapshot(ids)
        with paced():
            for row in make_plan(tenant_ids=ids).rows:
                _log(migrate(_as_begun(row, attempts[row.tenant_id]), snapshot))
    return len(ids)


def _not_unlinked(attempts: Sequence[CreationAttempt]) -> dict[int, CreationAttempt]:
    """Return the attempts by tenant, without the tenants that were unlinked after the POST."""
    found = {tenant_of(attempt): attempt for attempt in attempts}
    unlinked = TenantHistory.objects.filter(tenant_id__in=found, action=TenantHistory.Action.UNLINKED)
    for tenant_id, at in unlinked.order_by("at").values_list("tenant_id", "at"):
        if tenant_id in found and at > found[tenant_id].sent_at:
            del found[tenant_id]
    return found


def _as_begun(row: PlanRow, attempt: CreationAttempt) -> PlanRow:
    """Return the row so that it adds the members that the attempt was to add."""
    if row.draft is None:
        return row
    return replace(row, draft=replace(row.draft, adds_members=attempt.adds_members))


def _log(outcome: Outcome) -> None:
    level = logging.WARNING if outcome.failed else logging.INFO
    logger.log(level, "tenant %s: %s %s", outcome.tenant_id, outcome.result.value, outcome.message)
