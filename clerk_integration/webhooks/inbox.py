"""The inbox: messages are stored before they are acknowledged, and processed once they are stored."""

import json
import logging
import traceback
from collections.abc import Callable, Iterable

from django.db import Error, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from clerk_integration.entities import clean
from clerk_integration.jobs.waits import limit_waits
from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.payload import Event
from clerk_integration.webhooks.registry import ClerkEvent, handler_of

logger = logging.getLogger(__name__)

Status = WebhookDelivery.Status
OPEN = (Status.RECEIVED, Status.FAILED)
Accept = Callable[[str], object]
"""Raises WebhookRefused unless events of this Clerk instance are taken."""

Enqueue = Callable[[int], object]
"""Adds the job that processes the delivery with this id, on Django's own connection."""

STORE_LOCK_TIMEOUT = "5s"
"""The sender gives up after 15 s; a request that waits longer only keeps a web worker from others."""

MAX_ERROR_LENGTH = 20_000
"""Characters of an error that are kept, from its end, where a traceback says what happened."""

_json = json.JSONEncoder(separators=(",", ":"), check_circular=False)

# The condition always holds; it is the cheapest place that is evaluated before anything is inserted.
_INSERT = f"""
INSERT INTO webhook_deliveries (svix_id, event_type, organization_id, payload, status)
SELECT %s, %s, %s, %s::jsonb, %s
WHERE set_config('lock_timeout', '{STORE_LOCK_TIMEOUT}', true) IS NOT NULL
ON CONFLICT (svix_id) DO NOTHING
RETURNING id
"""

_REOPEN = """
UPDATE webhook_deliveries SET status = 'received', crashes = 0
WHERE svix_id = %s AND status = 'failed'
RETURNING id
"""

_BEGIN = """
UPDATE webhook_deliveries SET attempts = attempts + 1
WHERE id = %s AND status <> 'processed'
RETURNING attempts, crashes
"""


class Overtaken(Exception):
    """Another attempt has taken the delivery from this one, and it is not processed yet.

    The other attempt may be a person's, which nobody repeats when it fails. So this one's job must not
    end as if all were done; it is tried again, and finds the delivery processed or processes it.
    """


def store_delivery(svix_id: str, event: Event, *, accept: Accept, enqueue: Enqueue) -> bool:
    """Store a verified event and enqueue its processing, both or neither; return whether it is new.

    A repeat changes nothing, unless the delivery has failed: then it is enqueued again. Of types that
    nobody handles only the envelope is stored, as ignored, and nothing is enqueued. One transaction
    of two statements, for the repeat of a failed delivery three; `accept`, which is asked about new
    deliveries only, may take one more. Raises database errors and what `accept` and `enqueue` raise;
    nothing is stored then.
    """
    handled = handler_of(event.type) is not None
    with transaction.atomic(durable=True):
        inserted = _returning(
            _INSERT,
            svix_id,
            event.type,
            event.organization_id,
            _json.encode(event.payload if handled else event.envelope),
            Status.RECEIVED if handled else Status.IGNORED,
        )
        if inserted is None:
            to_process = _returning(_REOPEN, svix_id)
        else:
            accept(event.instance_id)
            to_process = inserted if handled else None
        if to_process is not None:
            enqueue(to_process)
    return inserted is not None


def requeue(delivery_ids: Iterable[int], *, enqueue: Enqueue) -> int:
    """Enqueue deliveries again, processed ones too, and return how many.

    Handlers may be called again for the same event at any time. Spares deliveries of which only the
    envelope was kept. One transaction: all or, when a database error is raised, none.
    """
    with transaction.atomic(durable=True):
        deliveries = WebhookDelivery.objects.filter(pk__in=list(delivery_ids), payload__has_key="data")
        found = list(deliveries.select_for_update().order_by("pk").values_list("pk", flat=True))
        WebhookDelivery.objects.filter(pk__in=found).update(status=Status.RECEIVED, crashes=0)
        for delivery_id in found:
            enqueue(delivery_id)
    return len(found)


def process_delivery(delivery_id: int) -> None:
    """Let the registered handler process a delivery, unless it is processed (or purged) already.

    The attempt is counted and committed first, so that a killed worker leaves a trace. The handler
    runs in the transaction that marks the delivery processed, or ignored when nobody handles its type
    any more. What the handler raises undoes that transaction, is kept with the delivery, now failed,
    and is raised again. A worker that has been overtaken, by another attempt or by the rescue that gave
    it up, changes nothing; it raises Overtaken unless the delivery is done.
    """
    ours = _begin(delivery_id)
    if ours is None:
        return
    try:
        overtaken = not _process(ours)
    except Exception as error:
        _record_failure(ours, error)
        raise
    if overtaken and WebhookDelivery.objects.filter(pk=delivery_id, status__in=OPEN).exists():
        raise Overtaken(f"delivery {delivery_id} was taken up by another attempt, which has not processed it")


def _begin(delivery_id: int) -> QuerySet[WebhookDelivery] | None:
    """The delivery, found until it is processed or another attempt or a rescue overtakes this one."""
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN, [delivery_id])
        row = cursor.fetchone()
    if row is None:
        return None
    attempts, crashes = row
    ours = WebhookDelivery.objects.filter(pk=delivery_id, attempts=attempts, crashes=crashes)
    return ours.exclude(status=Status.PROCESSED)


def _process(ours: QuerySet[WebhookDelivery]) -> bool:
    """Return False when the delivery is no longer ours."""
    with transaction.atomic(durable=True):
        limit_waits()
        delivery = ours.select_for_update().first()
        if delivery is None:
            return False
        if _handle(delivery):
            ours.update(status=Status.PROCESSED, processed_at=Now(), error="")
        else:
            ours.update(status=Status.IGNORED, processed_at=None, error="")
    return True


def _handle(delivery: WebhookDelivery) -> bool:
    handler = handler_of(delivery.event_type)
    if handler is None or "data" not in delivery.payload:
        return False
    handler(ClerkEvent.from_json(delivery.payload))
    return True


def _record_failure(ours: QuerySet[WebhookDelivery], error: Exception) -> None:
    try:
        ours.update(status=Status.FAILED, error=_error_text(error))
    except Error:
        # What matters is raised by the caller: `error` itself, so that the job is tried again.
        logger.exception("the failure of a webhook delivery could not be recorded")


def _error_text(error: Exception) -> str:
    """The traceback, without local variables, as PostgreSQL can hold it."""
    text = str(clean("".join(traceback.format_exception(error))))
    return text if len(text) <= MAX_ERROR_LENGTH else f"[...]{text[5 - MAX_ERROR_LENGTH :]}"


def _returning(statement: str, *parameters: str | int | None) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
    return None if row is None else int(row[0])
