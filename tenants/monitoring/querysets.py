"""Define the rows that the numbers count; `numbers` and `overview` count them."""

from datetime import timedelta
from typing import Any

from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob, ProcrastinateWorker

from clerk_integration.conf import stalled_worker_seconds
from clerk_integration.models import WebhookDelivery
from tenants.models import CreationAttempt, SyncRun


def due_deliveries() -> QuerySet[WebhookDelivery]:
    """Return the webhook deliveries that a worker may process now, and the time `since` which they wait."""
    waiting = WebhookDelivery.objects.filter(status__in=["received", "failed"], claim=None, crashes=0)
    return waiting.filter(due_at__lte=Now()).annotate(since=F("due_at")).order_by("due_at", "id")


def due_jobs() -> QuerySet[Any]:
    """Return the background jobs that a worker may start now, with `since`: the time when the wait began."""
    due = ProcrastinateJob.objects.filter(Q(scheduled_at=None) | Q(scheduled_at__lte=Now()), status="todo")
    deferred = ProcrastinateEvent.objects.filter(job=OuterRef("pk")).order_by("id").values("at")[:1]
    waiting: QuerySet[Any] = due.annotate(since=Coalesce("scheduled_at", Subquery(deferred)))
    return waiting.order_by("id")


def failed_jobs() -> QuerySet[ProcrastinateJob]:
    """Return the jobs that ended without success; a worker deletes them after 30 days."""
    return ProcrastinateJob.objects.filter(status="failed")


def live_workers() -> QuerySet[ProcrastinateWorker]:
    """Return the workers that sent a heartbeat within `stalled_worker_timeout`."""
    timeout = timedelta(seconds=stalled_worker_seconds())
    return ProcrastinateWorker.objects.filter(last_heartbeat__gte=Now() - timeout)


def unresolved_creations() -> QuerySet[CreationAttempt]:
    """Return the creations of which it is not known whether Clerk has made the organization."""
    unresolved = CreationAttempt.objects.filter(state__in=CreationAttempt.UNRESOLVED)
    return unresolved.annotate(since=F("sent_at")).order_by("sent_at")


def complete_runs(kind: SyncRun.Kind) -> QuerySet[SyncRun]:
    """Return the completed full syncs or dry runs of organizations and memberships, newest first."""
    return SyncRun.objects.filter(kind=kind, state=SyncRun.State.COMPLETED, cursor__skip_memberships=False)
