"""Webhooks as Clerk sends them: signed here by hand, not with the library that verifies them."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.webhooks.wake_ups import DRAIN, DUE

Json = dict[str, Any]

PATH = "/api/v1/webhooks/clerk"

TRANSACTION_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def new_signing_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"


def new_message_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def new_instance_id() -> str:
    return f"ins_{secrets.token_hex(12)}"


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """The base64 of an HMAC-SHA256 over `id.timestamp.body`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class WebhookSender:
    """Sends webhooks of one Clerk instance to this project."""

    def __init__(self, *, secret: str, instance_id: str) -> None:
        self.secret = secret
        self.instance_id = instance_id
        self.http = Client(raise_request_exception=False, enforce_csrf_checks=True)

    def event(self, event_type: str = "organization.updated", **changes: Any) -> Json:
        """An event of an organization; `changes` replace fields of the envelope, None removes them."""
        now = time.time_ns() // 1_000_000
        data = {
            "object": "organization",
            "id": f"org_{secrets.token_hex(8)}",
            "name": "Acme",
            "slug": "acme",
            "public_metadata": {},
            "created_at": now,
            "updated_at": now,
        }
        event = {
            "object": "event",
            "type": event_type,
            "timestamp": now,
            "instance_id": self.instance_id,
            "data": data,
        }
        return {key: value for key, value in {**event, **changes}.items() if value is not None}

    def headers(
        self, body: bytes, message_id: str | None = None, *, seconds_ago: float = 0
    ) -> dict[str, str]:
        """Svix's headers, signed."""
        message_id = message_id or new_message_id()
        timestamp = str(int(time.time() - seconds_ago))
        return {
            "svix-id": message_id,
            "svix-timestamp": timestamp,
            "svix-signature": f"v1,{signature(self.secret, message_id, timestamp, body)}",
        }

    def post(self, body: bytes, headers: dict[str, str]) -> Any:
        """Post a body as it is."""
        return self.http.post(PATH, body, content_type="application/json", headers=headers)

    def send(self, event: Any, message_id: str | None = None, **age: float) -> Any:
        """Sign and post an event, or any other JSON."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        return self.post(body, self.headers(body, message_id, **age))


def is_queued(delivery_id: int) -> bool:
    """Return whether a worker will process the delivery: it is due, and a wake-up waits."""
    return _exists(f"webhook_deliveries WHERE {DUE} AND id = {delivery_id}") and wake_ups() > 0


def wake_ups() -> int:
    """Return how many wake-ups wait."""
    return ProcrastinateJob.objects.filter(task_name=DRAIN, status="todo").count()


def _exists(rows: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {rows})")
        return bool(cursor.fetchone()[0])


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the SQL statements of the block, transaction control left out."""
    collected: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield collected
    collected.extend(
        query["sql"]
        for query in captured.captured_queries
        if not query["sql"].startswith(TRANSACTION_CONTROL)
    )
