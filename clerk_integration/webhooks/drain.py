"""Drain the inbox: claim the deliveries that are due, and process up to 100 of them together.

An attempt first claims its deliveries, in a statement that commits by itself: so a worker that dies leaves
its claims behind, and `recover` counts the crash. Then a transaction locks the deliveries, calls their
handlers and stores the results. Clerk's events may be processed in any order.

Neither of the two waits for the disk, as storing the delivery did. After a crash of the database server, a
delivery whose result is lost is still due, or claimed, and is processed again, with the same effect.

| delivery                                         | is processed                                        |
| ------------------------------------------------ | --------------------------------------------------- |
| not tried yet, and its type has a batch handler  | together with up to 99 others                       |
| tried before: it failed, or its batch did        | by itself                                           |
| its worker died                                  | by itself, and one at a time per process: `recover` |
"""

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from clerk_integration.conf import stalled_worker_seconds
from clerk_integration.entities import UnreadableRecord, clean
from clerk_integration.jobs.timeouts import DO_NOT_AWAIT_DISK, begin_repeatable
from clerk_integration.log_context import added_to_log
from clerk_integration.models import WebhookDelivery
from clerk_integration.signals import deliveries_tried
from clerk_integration.webhooks.exceptions import ForeignInstance
from clerk_integration.webhooks.instances import check_instance
from clerk_integration.webhooks.registry import ClerkEvent, batched_types, handle, is_handled
from clerk_integration.webhooks.wake_ups import DUE, WAKE_WORKER, wake_if_due

logger = logging.getLogger(__name__)

Status = WebhookDelivery.Status

BATCH = 100

DRAIN_SECONDS = 1.0
"""A job begins no further attempt after this time, so that the worker can stop, or run more urgent jobs."""

MINUTE = 60
HOUR = 60 * MINUTE

RETRY_DELAYS = (5, 30, 2 * MINUTE, 10 * MINUTE, HOUR, 3 * HOUR, 10 * HOUR)
"""Seconds before each further try: eight tries in 14 hours, then the delivery waits for an operator."""

GIVEN_UP = "It is not tried again. Remove the cause, then run `manage.py process_clerk_webhooks --failed`."

EXPECTED = (UnreadableRecord, ForeignInstance)
"""Errors in the event itself. A traceback through our code would not explain them."""

MAX_ERROR_LENGTH = 20_000
"""Characters that are kept of an error. The end is kept, because a traceback ends with the exception."""

# After so many seconds, a claim counts as lost, unless a transaction has locked its delivery.
_TAKE = """
    UPDATE webhook_deliveries
    SET attempts = attempts + 1, claim = %(claim)s,
        due_at = clock_timestamp() + %(seconds)s * interval '1 second'"""

# Claims a batch, or the oldest delivery if it must be processed by itself. If further deliveries are due, it
# adds the wake-up for the next worker, so that none of them waits for this attempt. It locks only what it
# claims. ORDER BY makes PostgreSQL use the index, whatever its statistics say.
_CLAIM_DUE = f"""
WITH first AS MATERIALIZED (
    SELECT id, attempts = 0 AND event_type = ANY (%(batched)s) AS in_batch FROM webhook_deliveries
    WHERE {DUE}
    ORDER BY due_at, id LIMIT 1
    FOR UPDATE SKIP LOCKED
), batch AS MATERIALIZED (
    SELECT id FROM webhook_deliveries
    WHERE {DUE} AND attempts = 0 AND event_type = ANY (%(batched)s)
      AND (SELECT in_batch FROM first)
    ORDER BY due_at, id LIMIT {BATCH}
    FOR UPDATE SKIP LOCKED
), claimed AS ({_TAKE}
    WHERE id = ANY (ARRAY(SELECT id FROM first UNION SELECT id FROM batch))
    RETURNING id
), woken AS (
    SELECT {WAKE_WORKER}
    WHERE EXISTS (SELECT FROM claimed) AND (
        SELECT id FROM webhook_deliveries
        WHERE {DUE} AND id NOT IN (SELECT id FROM claimed)
        ORDER BY due_at, id LIMIT 1) IS NOT NULL
)
SELECT id, (SELECT count(*) FROM woken) FROM claimed WHERE {DO_NOT_AWAIT_DISK} IS NOT NULL
"""

CLAIM_CRASHED = f"""{_TAKE}
    WHERE id = (
        SELECT id FROM webhook_deliveries
        WHERE status IN ('received', 'failed') AND claim IS NULL AND crashes > 0
          AND due_at <= statement_timestamp()
        ORDER BY due_at, id LIMIT 1
        FOR UPDATE SKIP LOCKED)
    RETURNING id
"""

CLAIM_ONE = f"""{_TAKE}
    WHERE id = %(id)s AND status IN ('received', 'failed')
      AND (claim IS NULL OR due_at <= statement_timestamp())
    RETURNING id
"""


def drain_all(seconds: float = DRAIN_SECONDS, *, is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Process the deliveries that are due; return how many.

    Stop when none is left, the time is over or the worker is stopping. If deliveries are left, a wake-up is
    waiting for a worker.

    An attempt claims one delivery if its type has no batch handler. If each attempt needed a job of its own,
    a worker that polls for jobs, as it does behind PgBouncer, would process only a few of them in a second.
    """
    end = time.monotonic() + seconds
    processed = 0
    while count := drain():
        processed += count
        if time.monotonic() >= end or is_stopping():
            break
    return processed


def drain() -> int:
    """Process one batch of the deliveries that are due, or one delivery; return how many were processed."""
    attempt = Attempt(_CLAIM_DUE, batched=batched_types())
    attempt.process()
    return len(attempt)


class Attempt:
    """The deliveries that a statement has claimed. No other attempt claims them until the claim is lost."""

    def __init__(self, statement: str, **parameters: Any) -> None:
        claim = uuid4()
        seconds = stalled_worker_seconds()
        with connection.cursor() as cursor:
            cursor.execute(statement, {"claim": claim, "seconds": seconds, **parameters})
            self._ids = [row[0] for row in cursor.fetchall()]
        self._claimed = WebhookDelivery.objects.filter(pk__in=self._ids, claim=claim)

    def __len__(self) -> int:
        return len(self._ids)

    def process(self) -> Exception | None:
        """Call the handlers in the transaction that stores the results; return the error if it failed.

        If one delivery fails, the error is stored, and the delivery is due again after a delay. If a batch
        fails, nothing is stored, and each of its deliveries is due at once, to be processed by itself. A
        delivery that another attempt has claimed meanwhile, or that is purged, is left alone.
        """
        if not self._ids:
            return None
        try:
            tried = self._process()
        except Exception as error:
            self._record(error)
            return error
        except BaseException:
            self._release()
            raise
        for outcome, deliveries in tried.items():
            deliveries_tried.send_robust(sender=None, deliveries=deliveries, outcome=str(outcome))
        return None

    def _process(self) -> dict[str, list[WebhookDelivery]]:
        """Return the deliveries by their result."""
        with transaction.atomic(durable=True):
            begin_repeatable()
            deliveries = list(self._claimed.select_for_update().order_by("pk"))
            tried: dict[str, list[WebhookDelivery]] = {Status.PROCESSED: [], Status.IGNORED: []}
            for delivery in deliveries:
                tried[Status.PROCESSED if _has_handler(delivery) else Status.IGNORED].append(delivery)
            with added_to_log(**_log_fields(deliveries)):
                handle([ClerkEvent.from_json(delivery.payload) for delivery in tried[Status.PROCESSED]])
            if ignored := [delivery.pk for delivery in tried[Status.IGNORED]]:
                _store_result(self._claimed.filter(pk__in=ignored), Status.IGNORED)
            _store_result(self._claimed, Status.PROCESSED, processed_at=Now())
        return tried

    def _record(self, error: Exception) -> None:
        if len(self._ids) == 1:
            _record_failure(self._claimed, error)
        elif released := self._release():
            logger.warning(
                "%d webhook deliveries failed together, each is tried alone: %s", released, _line(error)
            )

    def _release(self) -> int:
        released = self._claimed.update(claim=None, due_at=Now())
        wake_if_due()
        return released


def _has_handler(delivery: WebhookDelivery) -> bool:
    """Return whether a handler is called; raise ForeignInstance if the event is of another instance.

    Another instance may have been adopted since the delivery was stored.
    """
    if not is_handled(delivery.event_type) or "data" not in delivery.payload:
        return False
    if instance_id := delivery.payload.get("instance_id"):
        check_instance(instance_id)
    return True


def _store_result(
    deliveries: QuerySet[WebhookDelivery], status: str, *, processed_at: Now | None = None
) -> None:
    deliveries.update(status=status, processed_at=processed_at, error="", claim=None, due_at=None)


def _record_failure(claimed: QuerySet[WebhookDelivery], error: Exception) -> None:
    delivery = claimed.defer("payload", "error").first()
    if delivery is None:
        # Another attempt has claimed it, it is purged, or the error came after the commit.
        logger.error("After the end of an attempt on a webhook delivery: %s", _line(error), exc_info=error)
        return
    failures = delivery.attempts - delivery.crashes
    delays: Sequence[int] = RETRY_DELAYS[failures - 1 : failures]
    due_at = Now() + timedelta(seconds=delays[0]) if delays else None
    claimed.update(status=Status.FAILED, error=_text_of(error), claim=None, due_at=due_at)
    outcome = "failed" if delays else "given_up"
    deliveries_tried.send_robust(sender=None, deliveries=[delivery], outcome=outcome)
    logger.log(
        logging.WARNING if delays else logging.ERROR,
        "Webhook delivery %d (%s) failed: %s. %s",
        delivery.pk,
        delivery.event_type,
        _line(error),
        f"It is tried again in {delays[0]} s." if delays else GIVEN_UP,
        exc_info=None if isinstance(error, EXPECTED) else error,
        extra=_log_fields([delivery]),
    )


def _log_fields(deliveries: Sequence[WebhookDelivery]) -> dict[str, str | None]:
    """Return what a log line about one delivery names; nothing for several deliveries."""
    if len(deliveries) != 1:
        return {}
    return {"svix_id": deliveries[0].svix_id, "organization": deliveries[0].organization_id}


def _line(error: Exception) -> str:
    return " ".join(traceback.format_exception_only(error)[-1].split())


def _text_of(error: Exception) -> str:
    is_expected = isinstance(error, EXPECTED)
    lines = traceback.format_exception_only(error) if is_expected else traceback.format_exception(error)
    text = str(clean("".join(lines)))
    return text if len(text) <= MAX_ERROR_LENGTH else f"[...]{text[5 - MAX_ERROR_LENGTH :]}"
