"""The webhook inbox: an event is stored before it is acknowledged. A worker processes the event later."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.models import QuerySet

from clerk_integration.lost_connections import repeat_if_lost
from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.payload import Event
from clerk_integration.webhooks.registry import is_handled
from clerk_integration.webhooks.wake_ups import wake_if_due

Status = WebhookDelivery.Status

_STORE = "SELECT webhook_deliveries_store(%s, %s, %s, %s::jsonb, %s)"
"""The statement commits by itself, the delivery together with the wake-up."""

# The subquery locks the rows in the order of their ids, as other statements do. The ORM would drop the order.
_REQUEUE = """
WITH selected (id) AS MATERIALIZED ({selected})
UPDATE webhook_deliveries
SET status = 'received', attempts = 0, crashes = 0, claim = NULL, due_at = statement_timestamp()
FROM selected WHERE webhook_deliveries.id = selected.id
"""


def store_delivery(svix_id: str, event: Event) -> bool:
    """Store a verified event and wake a worker in one statement; return whether it is new.

    A repeated event changes nothing, unless its delivery has failed: a failed delivery is due again. If the
    event type has no handler, only the envelope is stored, with the status ignored. Raises database errors;
    nothing is stored then.
    """
    handled = is_handled(event.type)
    parameters = (
        svix_id,
        event.type,
        event.organization_id,
        _encode(event.payload if handled else event.envelope),
        Status.RECEIVED if handled else Status.IGNORED,
    )
    return repeat_if_lost(lambda: _store(parameters))


def requeue(deliveries: QuerySet[WebhookDelivery]) -> int:
    """Let the workers process deliveries again, including processed ones; return how many. One transaction.

    The attempts are counted from the beginning. Deliveries of which only the envelope is stored are skipped.
    The ids stay in the database, so that any number of deliveries takes the same memory here.
    """
    complete = deliveries.filter(payload__has_key="data").order_by("pk").select_for_update(of=("self",))
    with transaction.atomic(), connection.cursor() as cursor:
        selected, parameters = complete.values("pk").query.sql_with_params()
        cursor.execute(_REQUEUE.format(selected=selected), parameters)
        queued = int(cursor.rowcount)
        wake_if_due()
    return queued


def _encode(value: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # It holds an integer of more than 64 bits.
        return json.dumps(value)


def _store(parameters: Sequence[str | None]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_STORE, parameters)
        return bool(cursor.fetchone()[0])
