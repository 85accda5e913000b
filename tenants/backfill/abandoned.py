"""Tenants whose migration was cut off, and nobody ran it again."""

import logging
import threading
from datetime import timedelta

from clerk_integration.wire.pace import paced
from tenants.backfill.organization import tenant_of, unfinished_attempts
from tenants.backfill.plan import make_plan
from tenants.backfill.run import carry_out
from tenants.backfill.step import Outcome
from tenants.creation.search import UNRESOLVED_SECONDS
from tenants.mirror import writer
from tenants.models import Tenant

logger = logging.getLogger(__name__)

TRIED_FOR = timedelta(days=1)
"""After that a person must look: `migrate_tenants_to_clerk` says what is in the way."""


def finish_abandoned() -> int:
    """Bring tenants to an end whose organization is in Clerk and whose members or link are missing.

    Only what nobody has touched for a minute. Returns how many tenants there were; writes and calls
    Clerk as the migration does, and nothing at all when there are none. Raise ClerkError.
    """
    now = writer.clock()
    ids = [
        tenant_of(attempt)
        for attempt in unfinished_attempts()
        if attempt.sent_at < now - timedelta(seconds=UNRESOLVED_SECONDS)
        and attempt.created_at > now - TRIED_FOR
    ]
    ids = list(Tenant.objects.filter(pk__in=ids).values_list("pk", flat=True))
    if ids:
        with paced():
            plan = make_plan(tenant_ids=ids)
        carry_out(plan, concurrency=1, stopping=threading.Event(), report=_log, note=logger.info)
    return len(ids)


def _log(outcome: Outcome) -> None:
    level = logging.WARNING if outcome.failed else logging.INFO
    logger.log(level, "tenant %s: %s %s", outcome.tenant_id, outcome.result.value, outcome.message)
