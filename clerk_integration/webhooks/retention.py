"""How long deliveries are kept."""

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from clerk_integration.models import WebhookDelivery

KEEP_FOR = timedelta(days=30)
"""Default age at which a delivery may go."""

SENDER_RETRIES = timedelta(hours=28)
"""Svix repeats a message for 27.6 hours; a repeat of a purged delivery would be taken for a new one."""

BATCH = 1_000
"""Deliveries deleted in one statement, so that no lock is held for long."""

DONE = (WebhookDelivery.Status.PROCESSED, WebhookDelivery.Status.IGNORED)


def purge_deliveries(older_than: timedelta = KEEP_FOR) -> int:
    """Delete processed and ignored deliveries that arrived longer ago, and return how many.

    Writes and raises as `purge_batches` does.
    """
    return sum(purge_batches(older_than))


def purge_batches(older_than: timedelta) -> Iterator[int]:
    """Delete as above, and yield after each batch, which is committed, how many were in it.

    Failed deliveries, and those not processed yet, are kept however old they are: somebody still has
    to look at them. May be interrupted and run again. Raise ValueError for an age within which the
    sender may repeat a message.
    """
    old = _old(older_than).order_by("id")
    while batch := WebhookDelivery.objects.filter(pk__in=old.values("pk")[:BATCH]).delete()[0]:
        yield batch


def count_old(older_than: timedelta) -> int:
    """Return how many deliveries a purge would delete now; raise as it does. One statement."""
    return _old(older_than).count()


def _old(older_than: timedelta) -> QuerySet[WebhookDelivery]:
    if older_than < SENDER_RETRIES:
        hours = SENDER_RETRIES.total_seconds() / 3600
        raise ValueError(
            f"Deliveries must be kept for {hours:.0f} hours at least: the sender repeats messages for that "
            "long, and a repeat of a deleted one would be processed again. Nothing was deleted."
        )
    # One moment for all batches; otherwise deliveries that age meanwhile keep it running.
    return WebhookDelivery.objects.filter(status__in=DONE, received_at__lt=timezone.now() - older_than)
