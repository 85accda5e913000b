"""The webhook inbox: an event is stored before it is acknowledged. A worker processes the event later."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.payload import Event
from clerk_integration.webhooks.registry import is_handled
from clerk_integration.webhooks.wake_ups import ADD_WAKE_UP, NO_WAKE_UP, wake_if_due

Status = WebhookDelivery.Status

STORE_LOCK_TIMEOUT = "5s"
"""The sender gives up after 15 s; a request that waits longer only blocks a web worker."""

_json = json.JSONEncoder(separators=(",", ":"), check_circular=False)

# Each statement commits by itself, the delivery together with the wake-up. The condition with `set_config` is
# always true: it sets the timeout before the write.
_WITH_WAKE_UP = f"""
, woken AS (
    SELECT {ADD_WAKE_UP} FROM stored WHERE status = 'received' AND {NO_WAKE_UP}
)
SELECT id, (SELECT count(*) FROM woken) FROM stored
"""

_STORE = f"""
WITH stored AS (
    INSERT INTO webhook_deliveries (svix_id, event_type, organization_id, payload, status)
    SELECT %s, %s, %s, %s::jsonb, %s
    WHERE set_config('lock_timeout', '{STORE_LOCK_TIMEOUT}', true) IS NOT NULL
    ON CONFLICT (svix_id) DO NOTHING
    RETURNING id, status
){_WITH_WAKE_UP}
"""

# A delivery that is claimed is being processed at this moment.
_REOPEN = f"""
WITH stored AS (
    UPDATE webhook_deliveries SET status = 'received', attempts = 0, crashes = 0, due_at = now()
    WHERE svix_id = %s AND status = 'failed' AND claim IS NULL
      AND set_config('lock_timeout', '{STORE_LOCK_TIMEOUT}', true) IS NOT NULL
    RETURNING id, status
){_WITH_WAKE_UP}
"""


def store_delivery(svix_id: str, event: Event) -> bool:
    """Store a verified event and wake the workers in one statement; return whether it is new.

    A repeated event changes nothing, unless its delivery has failed: a failed delivery is due again. If the
    event type has no handler, only the envelope is stored, with the status ignored. Executes one statement
    for a new event, and two for a repeat. Raises database errors; nothing is stored then.
    """
    handled = is_handled(event.type)
    is_new = _is_stored(
        _STORE,
        svix_id,
        event.type,
        event.organization_id,
        _json.encode(event.payload if handled else event.envelope),
        Status.RECEIVED if handled else Status.IGNORED,
    )
    if not is_new:
        _is_stored(_REOPEN, svix_id)
    return is_new


def requeue(delivery_ids: Iterable[int]) -> int:
    """Let the workers process deliveries again, including processed ones; return how many. One transaction.

    The attempts are counted from the beginning. Deliveries of which only the envelope is stored are skipped.
    """
    with transaction.atomic():
        deliveries = WebhookDelivery.objects.filter(pk__in=list(delivery_ids), payload__has_key="data")
        found = list(deliveries.select_for_update().order_by("pk").values_list("pk", flat=True))
        WebhookDelivery.objects.filter(pk__in=found).update(
            status=Status.RECEIVED, attempts=0, crashes=0, claim=None, due_at=Now()
        )
        wake_if_due()
    return len(found)


def _is_stored(statement: str, *parameters: str | None) -> bool:
    """Execute one of the statements above; execute it again if the connection was lost since its last use.

    Django would ask the database before the first statement of each request whether the connection works.
    That takes as long as the statement itself, which may be repeated without harm.
    """
    wrapper: Any = connection
    may_be_lost = connection.connection is not None
    wrapper.health_check_done = True
    try:
        return _is_returned(statement, parameters)
    except (OperationalError, InterfaceError):
        if not may_be_lost or connection.is_usable():
            raise
        connection.close()
        return _is_returned(statement, parameters)


def _is_returned(statement: str, parameters: Sequence[str | None]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone() is not None
