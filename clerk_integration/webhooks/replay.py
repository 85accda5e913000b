"""Processing deliveries here and now, without a worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.inbox import Overtaken, process_delivery

Status = WebhookDelivery.Status

BATCH = 500
"""Ids that are fetched at once; the rows are read one by one, when they are processed."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one delivery: its status now, and its error if it failed."""

    id: int
    svix_id: str
    event_type: str
    status: str
    error: str = ""


def count_open(*, failed: bool = False, since: datetime | None = None) -> int:
    """Return how many deliveries `replay` would process now. One statement."""
    return _open(failed=failed, since=since).count()


def replay(*, failed: bool = False, since: datetime | None = None) -> Iterator[Replayed]:
    """Process the deliveries that are received and not processed, oldest first, and yield each outcome.

    `failed` adds the failed ones, `since` leaves out those that arrived earlier. A failure ends
    nothing: it is recorded with its delivery and yielded. What arrives meanwhile is left to the
    workers, and a delivery that a worker is processing is waited for and not processed twice.
    """
    newest = WebhookDelivery.objects.order_by("-id").values_list("id", flat=True).first() or 0
    waiting = _open(failed=failed, since=since).filter(id__lte=newest).order_by("id")
    last = 0
    while batch := list(waiting.filter(id__gt=last)[:BATCH]):
        for delivery in batch:
            yield _process(delivery)
        last = batch[-1].id


def _open(*, failed: bool, since: datetime | None) -> QuerySet[WebhookDelivery]:
    statuses = [Status.RECEIVED, Status.FAILED] if failed else [Status.RECEIVED]
    deliveries = WebhookDelivery.objects.filter(status__in=statuses).only("id", "svix_id", "event_type")
    return deliveries if since is None else deliveries.filter(received_at__gte=since)


def _process(delivery: WebhookDelivery) -> Replayed:
    error = ""
    try:
        process_delivery(delivery.id)
    except Overtaken:
        pass  # a worker has it
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    status = WebhookDelivery.objects.filter(pk=delivery.id).values_list("status", flat=True).first()
    return Replayed(
        id=delivery.id,
        svix_id=delivery.svix_id,
        event_type=delivery.event_type,
        status=Status.FAILED if error else status or Status.PROCESSED,
        error=error,
    )
