"""Process webhook deliveries in this process, without a worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.inbox import Superseded, process_delivery

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
    stored with its delivery and yielded, and the replay continues. If a worker is processing a delivery, the
    replay waits and does not process this delivery a second time.
    """
    for delivery_id in list(_to_replay(failed=failed, since=since).values_list("id", flat=True)):
        error = _process(delivery_id)
        delivery = (
            WebhookDelivery.objects.only("svix_id", "event_type", "status").filter(pk=delivery_id).first()
        )
        if delivery is not None:  # the delivery may have been purged meanwhile
            status = Status.FAILED if error else delivery.status
            yield ReplayResult(delivery_id, delivery.svix_id, delivery.event_type, status, error)


def _process(delivery_id: int) -> str:
    """Process the delivery; return the error, or an empty text if there was none."""
    try:
        process_delivery(delivery_id)
    except Superseded:
        return ""  # a worker is processing it
    except Exception as failure:
        return f"{type(failure).__name__}: {failure}"
    return ""


def _to_replay(*, failed: bool, since: datetime | None) -> QuerySet[WebhookDelivery]:
    statuses = [Status.RECEIVED, Status.FAILED] if failed else [Status.RECEIVED]
    deliveries = WebhookDelivery.objects.filter(status__in=statuses).order_by("id")
    return deliveries if since is None else deliveries.filter(received_at__gte=since)
