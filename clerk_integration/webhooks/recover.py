"""Recover deliveries whose worker died or froze, and make sure that every due delivery is processed."""

import logging
from datetime import timedelta
from threading import Lock

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from clerk_integration.conf import stalled_worker_seconds
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

    A claim that ends too far ahead was taken before the database's clock was set back, and is lost, too. A
    delivery that a transaction has locked is being processed, however old its claim is. At the third crash,
    the delivery is set to failed instead, and its error names the crashes.
    """
    with transaction.atomic():
        if not set_timeouts_and_lock("release_lost_claims"):
            return 0
        _correct_future_times()
        is_lost = Q(due_at__lte=Now()) | Q(due_at__gt=Now() + timedelta(seconds=2 * stalled_worker_seconds()))
        claimed = WebhookDelivery.objects.filter(is_lost, claim__isnull=False)
        lost = claimed.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True)[:BATCH]
        released = WebhookDelivery.objects.filter(pk__in=list(lost))
        count = released.update(claim=None, crashes=F("crashes") + 1, due_at=Now())
        released.filter(crashes__gte=CRASH_LIMIT).update(
            status=WebhookDelivery.Status.FAILED, due_at=None, error=CRASHED
        )
    if count:
        logger.warning("Took %d webhook deliveries from workers that died", count)
    return count


def _correct_future_times() -> None:
    """Make the waiting deliveries due that were received in the future: the database's clock was set back.

    Otherwise they would wait until the clock has caught up. An older delivery may wait for a retry: that wait
    grows with the time since the delivery was received, so it becomes twice as long at most.
    """
    waiting = WebhookDelivery.objects.filter(status__in=["received", "failed"], claim=None, due_at__gt=Now())
    waiting.filter(received_at__gt=Now()).update(received_at=Now(), due_at=Now())
