"""Read the numbers of a deployment from the database, for `/readyz`, `/metrics`, alerts and commands.

Each function runs one statement, and counts at most LARGE rows. Ages are measured by the database's clock.
The dashboard reads many numbers in one statement (`overview`), of the same rows (`querysets`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, DurationField, ExpressionWrapper, F, Max, Min, Q
from django.db.models.functions import Now

from clerk_integration.models import WebhookDelivery, WebhookRefusal
from tenants.models import SyncRun
from tenants.monitoring import querysets
from tenants.sql import LARGE, execute

STATEMENT_TIMEOUT = "2s"

FAILING_AFTER = timedelta(minutes=10)
"""Age at which a failed delivery counts as failing: its first four tries have failed."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Work that waits: how much (at most LARGE), and since how many seconds the oldest waits."""

    count: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Drift:
    """The differences that the last dry run found, by kind, and how many seconds ago it began."""

    age_seconds: float
    differences: Mapping[str, int]

    @property
    def total(self) -> int:
        """The number of records that a full sync would have written."""
        return sum(self.differences.values())


@dataclass(frozen=True, slots=True)
class Numbers:
    """All numbers of the functions below, read at one time."""

    due_deliveries: Waiting
    due_jobs: Waiting
    failed_jobs: int
    live_workers: int
    failing_deliveries: Waiting
    refused_webhooks: list[WebhookRefusal]
    unresolved_creations: Waiting
    runs: Mapping[tuple[str, str], int]
    failed_sync: SyncRun | None
    seconds_since_complete_sync: float | None
    drift: Drift | None


def read_numbers() -> Numbers:
    """Return all numbers; raise OperationalError if a statement takes longer than STATEMENT_TIMEOUT."""
    # In a transaction, so that the time limit ends with it, also behind PgBouncer.
    with transaction.atomic():
        execute("SELECT set_config('statement_timeout', %(limit)s, true)", limit=STATEMENT_TIMEOUT)
        return Numbers(
            due_deliveries=due_deliveries(),
            due_jobs=due_jobs(),
            failed_jobs=failed_jobs(),
            live_workers=live_workers(),
            failing_deliveries=failing_deliveries(),
            refused_webhooks=refused_webhooks(),
            unresolved_creations=unresolved_creations(),
            runs=runs(),
            failed_sync=failed_sync(),
            seconds_since_complete_sync=seconds_since_complete_sync(),
            drift=drift(),
        )


def due_deliveries() -> Waiting:
    """Return the webhook deliveries that a worker may process now."""
    return _waiting(querysets.due_deliveries())


def due_jobs() -> Waiting:
    """Return the background jobs that a worker may start now."""
    return _waiting(querysets.due_jobs())


def failed_jobs() -> int:
    """Return the number of jobs that ended without success; a worker deletes them after 30 days."""
    return _count(querysets.failed_jobs())


def live_workers() -> int:
    """Return the number of workers that sent a heartbeat within `stalled_worker_timeout`."""
    return _count(querysets.live_workers())


def failing_deliveries() -> Waiting:
    """Return the failed deliveries that have no next try, or have failed for FAILING_AFTER."""
    failed = WebhookDelivery.objects.filter(status="failed")
    failing = failed.filter(Q(due_at=None, claim=None) | Q(received_at__lte=Now() - FAILING_AFTER))
    return _waiting(failing.annotate(since=F("received_at")).order_by("id"))


def refused_webhooks() -> list[WebhookRefusal]:
    """Return one row per reason for which webhooks were refused, latest first."""
    return list(WebhookRefusal.objects.order_by("-last_at"))


def unresolved_creations() -> Waiting:
    """Return the creations of which it is not known whether Clerk has made the organization."""
    return _waiting(querysets.unresolved_creations())


def runs() -> dict[tuple[str, str], int]:
    """Return the number of stored runs by kind and state; runs are deleted 90 days after their end."""
    counted = SyncRun.objects.order_by().values_list("kind", "state").annotate(count=Count("pk"))
    return {(kind, state): count for kind, state, count in counted}


def failed_sync() -> SyncRun | None:
    """Return the last ended full sync if it failed; None if it was completed or interrupted."""
    ended = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC).exclude(state=SyncRun.State.RUNNING).first()
    return ended if ended is not None and ended.state == SyncRun.State.FAILED else None


def seconds_since_complete_sync() -> float | None:
    """Return the age of the start of the last completed full sync with memberships; None if there is none."""
    age = querysets.complete_runs(SyncRun.Kind.FULL_SYNC).aggregate(
        age=ExpressionWrapper(Now() - Max("started_at"), DurationField())
    )["age"]
    return None if age is None else float(age.total_seconds())


def drift() -> Drift | None:
    """Return the result of the last completed dry run with memberships; None if there is none."""
    run = (
        querysets.complete_runs(SyncRun.Kind.DRY_RUN)
        .annotate(age=ExpressionWrapper(Now() - F("started_at"), DurationField()))
        .first()
    )
    if run is None:
        return None
    differences = {
        "missing_from_mirror": run.created,
        "missing_from_clerk": run.retired,
        "changed": run.updated,
    }
    return Drift(run.age.total_seconds(), differences)


def _waiting(queryset: Any) -> Waiting:
    found = queryset[:LARGE].aggregate(
        count=Count("pk"), oldest=ExpressionWrapper(Now() - Min("since"), DurationField())
    )
    oldest = found["oldest"]
    return Waiting(found["count"], 0.0 if oldest is None else max(0.0, oldest.total_seconds()))


def _count(queryset: Any) -> int:
    return int(queryset[:LARGE].aggregate(count=Count("pk"))["count"])
