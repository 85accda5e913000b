"""The Prometheus metrics of one process: calls of Clerk, its breakers, and webhooks.

They are counted by receivers of `clerk_integration.signals`, so that the apps work without prometheus_client
and a process that exports no metrics pays nothing. No label holds an id, and unknown event types are "other".
Import this module only in a process that exports metrics.
"""

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from clerk_integration import signals
from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.registry import ClerkEvent, is_handled

CLERK_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

CLERK_REQUESTS = Histogram(
    "clerk_request_seconds",
    "Seconds that requests to Clerk took, by operation and by status of the reply; `unanswered` without a"
    " whole reply. A request that was rate limited has the outcome 429.",
    ["operation", "outcome"],
    buckets=CLERK_BUCKETS,
)
CLERK_NOT_CALLED = Counter(
    "clerk_requests_not_sent",
    "Requests to Clerk that were not sent: a breaker was open, too many threads waited, or the rate limit was"
    " used up.",
    ["reason"],
)
CLERK_BREAKERS = Gauge(
    "clerk_breakers_open",
    "Web processes whose breaker for reads or writes is open because Clerk does not answer.",
    ["breaker"],
    multiprocess_mode="livesum",
)
WEBHOOKS_RECEIVED = Counter(
    "clerk_webhooks_received",
    "Genuine webhooks of Clerk that were stored, or were repeats of a stored one, by type of event.",
    ["event_type", "outcome"],
)
WEBHOOKS_TRIED = Counter(
    "clerk_webhooks_tried",
    "Attempts to process stored webhooks, by type of event and outcome: processed, ignored, failed (tried"
    " again), given_up.",
    ["event_type", "outcome"],
)
WEBHOOK_LAG = Histogram(
    "clerk_webhook_lag_seconds",
    "Seconds from an event in Clerk, by Clerk's clock, until its webhook was processed here.",
    buckets=LAG_BUCKETS,
)


def connect() -> None:
    """Begin to count in this process."""
    signals.clerk_called.connect(_count_request, dispatch_uid=__name__)
    signals.clerk_not_called.connect(_count_unsent, dispatch_uid=__name__)
    signals.breaker_changed.connect(_set_breaker, dispatch_uid=__name__)
    signals.delivery_stored.connect(_count_stored, dispatch_uid=__name__)
    signals.deliveries_tried.connect(_count_tried, dispatch_uid=__name__)


def _count_request(*, operation: str, outcome: str, seconds: float, **_: Any) -> None:
    CLERK_REQUESTS.labels(operation, outcome).observe(seconds)


def _count_unsent(*, reason: str, **_: Any) -> None:
    CLERK_NOT_CALLED.labels(reason).inc()


def _set_breaker(*, breaker: str, is_open: bool, **_: Any) -> None:
    CLERK_BREAKERS.labels(breaker).set(is_open)


def _count_stored(*, event_type: str, is_new: bool, **_: Any) -> None:
    WEBHOOKS_RECEIVED.labels(_label(event_type), "stored" if is_new else "repeated").inc()


def _count_tried(*, deliveries: Sequence[WebhookDelivery], outcome: str, **_: Any) -> None:
    now = time.time()
    for delivery in deliveries:
        WEBHOOKS_TRIED.labels(_label(delivery.event_type), outcome).inc()
        if outcome == WebhookDelivery.Status.PROCESSED:
            WEBHOOK_LAG.observe(max(0.0, now - _sent_at(delivery)))


def _sent_at(delivery: WebhookDelivery) -> float:
    """Return the time of the event in Clerk; the time of its arrival if the event names no plausible time."""
    milliseconds = ClerkEvent.from_json(delivery.payload).timestamp
    return milliseconds / 1000 if milliseconds else delivery.received_at.timestamp()


def _label(event_type: str) -> str:
    return event_type if is_handled(event_type) else "other"
