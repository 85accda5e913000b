"""Delete old webhook deliveries."""

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from clerk_integration.models import WebhookDelivery

KEEP_FOR = timedelta(days=30)
"""Age at which a processed delivery is deleted, unless an operator names another."""

SENDER_RETRIES = timedelta(hours=28)
"""Svix repeats a message for 27.6 hours; a repeat of a purged delivery would count as a new one."""

BATCH = 1_000
"""Deliveries deleted in one statement, so that no lock is held for long."""

Status = WebhookDelivery.Status


def purge_deliveries(older_than: timedelta = KEEP_FOR) -> Iterator[int]:
    """Delete old processed and ignored deliveries in batches; after each commit, yield the number deleted.

    Failed and unprocessed deliveries are kept, whatever their age. The purge may be interrupted and run
    again. Raise ValueError for an age at which Clerk may still repeat a message.
    """
    old = _old(older_than).order_by("id")
    while batch := WebhookDelivery.objects.filter(pk__in=old.values("pk")[:BATCH]).delete()[0]:
        yield batch


def count_to_purge(older_than: timedelta) -> int:
    """Return how many deliveries a purge would delete. One statement. Raise ValueError as the purge does."""
    return _old(older_than).count()


def _old(older_than: timedelta) -> QuerySet[WebhookDelivery]:
    if older_than < SENDER_RETRIES:
        hours = SENDER_RETRIES.total_seconds() / 3600
        raise ValueError(
            f"Deliveries must be kept for {hours:.0f} hours at least: the sender repeats messages for that "
            "long, and a repeat of a deleted one would be processed again. Nothing was deleted."
        )
    # All batches use one time. Otherwise deliveries that age during the purge would prolong the purge.
    received_before = timezone.now() - older_than
    return WebhookDelivery.objects.filter(
        status__in=(Status.PROCESSED, Status.IGNORED), received_at__lt=received_before
    )
