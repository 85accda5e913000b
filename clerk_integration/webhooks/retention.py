"""How long deliveries are kept."""

from datetime import timedelta

from django.db.models.functions import Now

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

    Failed ones, and those not processed yet, are kept however old they are: somebody still has to
    look at them. Commits batch by batch, so that it may be interrupted and run again. Raise
    ValueError for an age within which the sender may repeat a message.
    """
    if older_than < SENDER_RETRIES:
        hours = SENDER_RETRIES.total_seconds() / 3600
        raise ValueError(
            f"Deliveries must be kept for {hours:.0f} hours at least: the sender repeats messages for that "
            "long, and a repeat of a deleted one would be processed again. Nothing was deleted."
        )
    # One moment for all batches; otherwise deliveries that age meanwhile keep it running.
    old = WebhookDelivery.objects.filter(status__in=DONE, received_at__lt=Now() - older_than).order_by("id")
    deleted = 0
    while batch := WebhookDelivery.objects.filter(pk__in=old.values("pk")[:BATCH]).delete()[0]:
        deleted += batch
    return deleted
