"""Process webhook deliveries in this process, without a worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.drain import CLAIM_ONE, Attempt

Status = WebhookDelivery.Status


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The status of one delivery after its replay, and the error if it failed."""

    id: int
    svix_id: str
    event_type: str
    status: str
    error: str = ""


def count_to_replay(*, failed: bool = False, since: datetime | None = None) -> int:
    """Return how many deliveries `replay` would process now. One statement."""
    return _to_replay(failed=failed, since=since).count()


def replay(*, failed: bool = False, since: datetime | None = None) -> Iterator[ReplayResult]:
    """Process the deliveries that are stored now and not processed, oldest first; yield each result.

    `failed` includes failed deliveries. `since` leaves out deliveries that arrived earlier. A failure is
    stored with its delivery and yielded, and the replay continues. A delivery that a worker has claimed is
    left to the worker.
    """
    for delivery_id in list(_to_replay(failed=failed, since=since).values_list("id", flat=True)):
        error = Attempt(CLAIM_ONE, id=delivery_id).process()
        delivery = (
            WebhookDelivery.objects.only("svix_id", "event_type", "status").filter(pk=delivery_id).first()
        )
        if delivery is not None:  # the delivery may have been purged meanwhile
            status = Status.FAILED if error else delivery.status
            reason = f"{type(error).__name__}: {error}" if error else ""
            yield ReplayResult(delivery_id, delivery.svix_id, delivery.event_type, status, reason)


def _to_replay(*, failed: bool, since: datetime | None) -> QuerySet[WebhookDelivery]:
    statuses = [Status.RECEIVED, Status.FAILED] if failed else [Status.RECEIVED]
    deliveries = WebhookDelivery.objects.filter(status__in=statuses).order_by("id")
    return deliveries if since is None else deliveries.filter(received_at__gte=since)
