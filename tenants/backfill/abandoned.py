"""Finish tenants whose migration was interrupted and not repeated."""

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
"""An older attempt needs a person; `migrate_tenants_to_clerk` names the obstacle."""


def finish_abandoned() -> int:
    """Finish tenants whose organization was created and whose members or link are missing.

    Only attempts that are due count (`creation.search.is_due`). Write and call Clerk as the migration
    does, and do nothing if there are none. Return how many tenants there were. Raise ClerkError.
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
