"""Recover deliveries whose worker died or froze, and make sure that every due delivery is processed."""

import logging
from threading import Lock

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from clerk_integration.jobs.stalled import BATCH, CRASH_LIMIT
from clerk_integration.jobs.timeouts import set_timeouts_and_lock
from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.drain import CLAIM_CRASHED, Attempt
from clerk_integration.webhooks.wake_ups import wake_if_due

logger = logging.getLogger(__name__)

CRASHED = (
    f"Processing this delivery crashed its worker {CRASH_LIMIT} times, so it is not tried again by itself. "
    "The message is kept. Look for the cause in the logs of the workers and of the machine (memory?), then "
    "replay this delivery."
)

_one_at_a_time = Lock()


def recover() -> int:
    """Release lost claims, wake the workers if deliveries are due, and process those whose worker died.

    It is unknown which delivery of a batch crashed the worker. They are therefore processed one at a time,
    so that harmless deliveries do not crash a second time together with the faulty one. Return how many
    deliveries were released or processed.
    """
    recovered = release_lost_claims()
    wake_if_due()
    if _one_at_a_time.acquire(blocking=False):
        try:
            while attempt := Attempt(CLAIM_CRASHED):
                attempt.process()
                recovered += 1
        finally:
            _one_at_a_time.release()
    return recovered


def release_lost_claims() -> int:
    """Release the claims of dead and frozen workers, and count the crash; return how many. One transaction.

    A delivery that a transaction has locked is being processed, however old its claim is. At the third crash,
    the delivery is set to failed instead, and its error names the crashes.
    """
    with transaction.atomic():
        if not set_timeouts_and_lock("release_lost_claims"):
            return 0
        claimed = WebhookDelivery.objects.filter(claim__isnull=False, due_at__lte=Now())
        lost = claimed.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True)[:BATCH]
        released = WebhookDelivery.objects.filter(pk__in=list(lost))
        count = released.update(claim=None, crashes=F("crashes") + 1, due_at=Now())
        released.filter(crashes__gte=CRASH_LIMIT).update(
            status=WebhookDelivery.Status.FAILED, due_at=None, error=CRASHED
        )
    if count:
        logger.warning("Took %d webhook deliveries from workers that died", count)
    return count
