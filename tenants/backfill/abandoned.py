"""Finish tenants whose migration was interrupted and not started again."""

import logging
from datetime import timedelta

from clerk_integration.wire.pace import paced
from tenants.backfill.attempts import tenant_of, unfinished_attempts
from tenants.backfill.plan import make_plan
from tenants.backfill.snapshot import LazySnapshot
from tenants.backfill.step import Outcome, migrate
from tenants.creation.search import is_due
from tenants.mirror import writer
from tenants.models import Tenant

logger = logging.getLogger(__name__)

MAX_AGE = timedelta(days=1)
"""Older attempts are left to the operator; `migrate_tenants_to_clerk` prints why each attempt fails."""


def finish_abandoned() -> int:
    """Finish the migration of tenants with an unfinished attempt; return the number of these tenants.

    Consider only attempts that are due (`creation.search.is_due`) and younger than MAX_AGE. Write the same
    rows and send the same requests as `step.migrate`. Raise ClerkError.
    """
    now = writer.clock()
    ids = [
        tenant_of(attempt)
        for attempt in unfinished_attempts()
        if is_due(attempt, now) and attempt.created_at > now - MAX_AGE
    ]
    ids = list(Tenant.objects.filter(pk__in=ids).values_list("pk", flat=True))
    if ids:
        snapshot = LazySnapshot(ids)
        with paced():
            for row in make_plan(tenant_ids=ids).rows:
                _log(migrate(row, snapshot))
    return len(ids)


def _log(outcome: Outcome) -> None:
    level = logging.WARNING if outcome.failed else logging.INFO
    logger.log(level, "tenant %s: %s %s", outcome.tenant_id, outcome.result.value, outcome.message)
