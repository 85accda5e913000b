"""The webhook inbox: an event is stored before it is acknowledged. A worker processes the event later."""

import json
import logging
import traceback
from collections.abc import Iterable

from django.db import Error, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from clerk_integration.entities import UnreadableRecord, clean
from clerk_integration.jobs.timeouts import set_transaction_timeouts
from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.delivery_jobs import (
    DEFER_DELIVERY,
    PROCESS_DELIVERY,
    enqueue_delivery,
    run_waiting_jobs_now,
)
from clerk_integration.webhooks.exceptions import ForeignInstance
from clerk_integration.webhooks.instances import check_instance
from clerk_integration.webhooks.payload import Event
from clerk_integration.webhooks.registry import ClerkEvent, handler_of

logger = logging.getLogger(__name__)

Status = WebhookDelivery.Status
UNPROCESSED = (Status.RECEIVED, Status.FAILED)

STORE_LOCK_TIMEOUT = "5s"
"""The sender gives up after 15 s; a request that waits longer only blocks a web worker."""

EXPECTED = (UnreadableRecord, ForeignInstance)
"""Errors in the event itself. A traceback through our code would not explain them."""

MAX_ERROR_LENGTH = 20_000
"""Characters that are kept of an error. The end is kept, because a traceback ends with the exception."""

_json = json.JSONEncoder(separators=(",", ":"), check_circular=False)

# Stores a delivery and enqueues its job, in one statement that commits by itself. The condition is always
# true: it sets the timeout before the insert.
_STORE = f"""
WITH stored AS (
    INSERT INTO webhook_deliveries (svix_id, event_type, organization_id, payload, status)
    SELECT %s, %s, %s, %s::jsonb, %s
    WHERE set_config('lock_timeout', '{STORE_LOCK_TIMEOUT}', true) IS NOT NULL
    ON CONFLICT (svix_id) DO NOTHING
    RETURNING id, status
), enqueued AS (
    SELECT {DEFER_DELIVERY} FROM stored WHERE status = 'received'
)
SELECT id, (SELECT count(*) FROM enqueued) FROM stored
"""

# Returns the delivery only if it has no waiting job. A job that waits for its retry runs at once.
_REOPEN = """
WITH reopened AS (
    UPDATE webhook_deliveries SET status = 'received', crashes = 0
    WHERE svix_id = %s AND status = 'failed'
    RETURNING id
), waiting AS (
    UPDATE procrastinate_jobs SET scheduled_at = NULL FROM reopened
    WHERE status = 'todo' AND task_name = %s AND args->>'delivery_id' = reopened.id::text
    RETURNING reopened.id
)
SELECT id FROM reopened WHERE NOT EXISTS (SELECT FROM waiting)
"""

_BEGIN_ATTEMPT = """
UPDATE webhook_deliveries SET attempts = attempts + 1
WHERE id = %s AND status <> 'processed'
RETURNING attempts, crashes
"""


class Superseded(Exception):
    """Another attempt has begun on the same delivery and has not processed it yet.

    The other attempt may be an operator's replay, which is not retried if it fails. The job of this attempt
    must therefore not count as done. The job is retried, and processes the delivery or finds it processed.
    """


def store_delivery(svix_id: str, event: Event) -> bool:
    """Store a verified event and enqueue its processing in one statement; return whether it is new.

    A repeated event changes nothing, unless its delivery has failed: a failed delivery is enqueued again. If
    the event type has no handler, only the envelope is stored, with the status ignored. Executes one
    statement for a new event, two for a repeat, and three for the repeat of a failed delivery. Raises
    database errors and ConnectorException; nothing is stored then.
    """
    handled = handler_of(event.type) is not None
    new_id = _returned_id(
        _STORE,
        svix_id,
        event.type,
        event.organization_id,
        _json.encode(event.payload if handled else event.envelope),
        Status.RECEIVED if handled else Status.IGNORED,
    )
    if new_id is None:
        _reopen(svix_id)
    return new_id is not None


def _reopen(svix_id: str) -> None:
    with transaction.atomic(durable=True):
        to_process = _returned_id(_REOPEN, svix_id, PROCESS_DELIVERY)
        if to_process is not None:
            enqueue_delivery(to_process)


def requeue(delivery_ids: Iterable[int]) -> int:
    """Enqueue deliveries again, including processed ones; return how many. One transaction.

    A delivery that has a waiting job gets no second job. Deliveries of which only the envelope is stored are
    skipped.
    """
    with transaction.atomic():
        deliveries = WebhookDelivery.objects.filter(pk__in=list(delivery_ids), payload__has_key="data")
        found = list(deliveries.select_for_update().order_by("pk").values_list("pk", flat=True))
        WebhookDelivery.objects.filter(pk__in=found).update(status=Status.RECEIVED, crashes=0)
        for delivery_id in set(found) - run_waiting_jobs_now(found):
            enqueue_delivery(delivery_id)
    return len(found)


def process_delivery(delivery_id: int) -> None:
    """Call the registered handler with a delivery, unless the delivery is processed or purged already.

    The attempt is counted and committed first, so that a killed worker leaves a trace. The handler runs in
    the transaction that sets the status to processed. If the type has no handler any more, the status is set
    to ignored. If the handler raises an exception, the transaction is rolled back, the error is stored, the
    status is set to failed, and the exception is raised again. If another attempt or a rescue has taken the
    delivery in the meantime, nothing is changed, and Superseded is raised unless the delivery is done.
    """
    attempt = _begin_attempt(delivery_id)
    if attempt is None:
        return
    try:
        superseded = not _process(attempt)
    except Exception as error:
        _record_failure(attempt, error)
        raise
    if superseded and WebhookDelivery.objects.filter(pk=delivery_id, status__in=UNPROCESSED).exists():
        raise Superseded(f"another attempt has begun on delivery {delivery_id} and has not processed it yet")


def _begin_attempt(delivery_id: int) -> QuerySet[WebhookDelivery] | None:
    """Count an attempt; return a query that matches the delivery until another attempt or rescue takes it."""
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_ATTEMPT, [delivery_id])
        row = cursor.fetchone()
    if row is None:
        return None
    attempts, crashes = row
    attempt = WebhookDelivery.objects.filter(pk=delivery_id, attempts=attempts, crashes=crashes)
    return attempt.exclude(status=Status.PROCESSED)


def _process(attempt: QuerySet[WebhookDelivery]) -> bool:
    """Call the handler and store the result; return False if another attempt has taken the delivery."""
    with transaction.atomic(durable=True):
        set_transaction_timeouts()
        delivery = attempt.select_for_update().first()
        if delivery is None:
            return False
        if _handle(delivery):
            attempt.update(status=Status.PROCESSED, processed_at=Now(), error="")
        else:
            attempt.update(status=Status.IGNORED, processed_at=None, error="")
    return True


def _handle(delivery: WebhookDelivery) -> bool:
    handler = handler_of(delivery.event_type)
    if handler is None or "data" not in delivery.payload:
        return False
    if instance_id := delivery.payload.get("instance_id"):
        # Another instance may have been adopted since the delivery was stored.
        check_instance(instance_id)
    handler(ClerkEvent.from_json(delivery.payload))
    return True


def _record_failure(attempt: QuerySet[WebhookDelivery], error: Exception) -> None:
    lines = (
        traceback.format_exception_only(error)
        if isinstance(error, EXPECTED)
        else traceback.format_exception(error)
    )
    text = str(clean("".join(lines)))
    if len(text) > MAX_ERROR_LENGTH:
        text = f"[...]{text[5 - MAX_ERROR_LENGTH :]}"
    try:
        attempt.update(status=Status.FAILED, error=text)
    except Error as outage:
        # The caller raises `error` itself, so that the job is retried.
        logger.error("the failure of a webhook delivery could not be recorded: %s", outage)  # noqa: TRY400


def _returned_id(statement: str, *parameters: str | int | None) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
    return None if row is None else int(row[0])
