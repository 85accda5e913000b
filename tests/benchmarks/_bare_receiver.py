"""What the receiver is measured against: the least that keeps an event, and the URLs for both."""

import base64
import hashlib
import hmac

from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from procrastinate.jobs import Job

from clerk_integration.jobs.queue import queue
from config.urls import urlpatterns as of_the_project

PATH = "/bare"

TABLE = "CREATE TABLE bare_deliveries (LIKE webhook_deliveries INCLUDING ALL)"
"""Columns, defaults, constraints, indexes and identity of the inbox."""

_INSERT = """
INSERT INTO bare_deliveries (svix_id, event_type, organization_id, payload)
VALUES (%s, 'organization.updated', 'org_1', %s) RETURNING id
"""


@csrf_exempt
def bare_receiver(request: HttpRequest) -> HttpResponse:
    """One HMAC, one insert, one job, in one transaction; the body is not even read as JSON."""
    if not hmac.compare_digest(bare_signature(request), request.headers["svix-signature"]):
        return HttpResponse(status=400)
    with transaction.atomic():
        enqueue(bare_insert(request.headers["svix-id"], request.body.decode()))
    return HttpResponse(status=204)


def bare_signature(request: HttpRequest) -> str:
    """Sign what has arrived, with the first secret."""
    [secret, *_] = settings.CLERK_WEBHOOK_SIGNING_SECRET
    key = base64.b64decode(secret.removeprefix("whsec_"))
    prefix = f"{request.headers['svix-id']}.{request.headers['svix-timestamp']}."
    digest = hmac.new(key, prefix.encode() + request.body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def enqueue(delivery_id: int) -> None:
    """Add a job for the delivery, as Procrastinate's documentation shows it for Django."""
    job = Job(
        task_name="bare.process",
        queue="bare",
        task_kwargs={"delivery_id": delivery_id},
        lock=None,
        queueing_lock=None,
    )
    queue.defer_job(job)


def bare_insert(message_id: str, text: str) -> int:
    """Insert a row as wide as the receiver's."""
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [message_id, text])
        return int(cursor.fetchone()[0])


urlpatterns = [path(PATH.removeprefix("/"), bare_receiver), *of_the_project]
