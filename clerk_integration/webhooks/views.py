"""`POST /api/v1/webhooks/clerk`: where Clerk's webhooks arrive.

A plain Django view: there is nobody to authenticate but by signature, no session, no throttle (who is
refused would only come back), and it must take a storm.
"""

import logging
from http import HTTPStatus

from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from procrastinate.exceptions import ConnectorException

from clerk_integration.conf import clerk_settings
from clerk_integration.jobs.queue import enqueue_delivery
from clerk_integration.webhooks.exceptions import InvalidEvent, NoSigningSecret, WebhookRefused
from clerk_integration.webhooks.inbox import store_delivery
from clerk_integration.webhooks.instances import check_configured_instance, check_learned_instance
from clerk_integration.webhooks.payload import read_event
from clerk_integration.webhooks.signature import verify

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
"""Far more than any event of Clerk; nothing larger is read."""


class BodyTooLarge(WebhookRefused):
    """The body is larger than MAX_BODY_BYTES."""

    code = "body_too_large"


@csrf_exempt
def receive_webhook(request: HttpRequest) -> HttpResponse:
    """Answer 204 once the event is stored, also for a repeat; store nothing otherwise.

    400 for what is no genuine, current event of our instance, 413 for a body that is too large, 405
    for other methods; 503, upon which the sender tries again, when the event could not be stored or
    no signing secret is configured. The log says why. At most three SQL statements, two for a repeat.
    """
    if request.method != "POST":
        return _method_not_allowed(request)
    try:
        _receive(request)
    except BodyTooLarge as refusal:
        return _refused(refusal, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    except WebhookRefused as refusal:
        return _refused(refusal, HTTPStatus.BAD_REQUEST)
    except NoSigningSecret as error:
        logger.critical("webhook not taken: %s", error)
        return _error(HTTPStatus.SERVICE_UNAVAILABLE, error.code, "This server cannot verify webhooks.")
    except (Error, ConnectorException) as error:
        logger.error("webhook not taken: %s", _without_row(error))  # noqa: TRY400  (see _without_row)
        return _error(
            HTTPStatus.SERVICE_UNAVAILABLE, "not_stored", "The event was not stored. Send it again."
        )
    return HttpResponse(status=HTTPStatus.NO_CONTENT)


def _receive(request: HttpRequest) -> None:
    svix_id, text = verify(_body(request), request.headers, clerk_settings.webhook_signing_secrets)
    event = read_event(text)
    check_configured_instance(event.instance_id)
    store_delivery(svix_id, event, accept=check_learned_instance, enqueue=enqueue_delivery)


def _body(request: HttpRequest) -> bytes:
    """The whole body; one that says that it is too large is not read at all."""
    if _declared_length(request) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        body: bytes = request.read(MAX_BODY_BYTES + 1)
    except UnreadablePostError:
        raise InvalidEvent("the connection ended within the body") from None
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    return body


def _declared_length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _without_row(error: Exception) -> str:
    """What the database says of itself; its details may repeat the row, and so the event."""
    cause = error.__cause__ or error
    diagnostics = getattr(cause, "diag", None)
    primary = getattr(diagnostics, "message_primary", None) or "the database cannot be reached"
    return f"{type(cause).__name__} {getattr(cause, 'sqlstate', None) or ''}: {primary}"


def _method_not_allowed(request: HttpRequest) -> HttpResponse:
    response = _error(
        HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f'Method "{request.method}" not allowed.'
    )
    response.headers["Allow"] = "POST"
    return response


def _refused(refusal: WebhookRefused, status: HTTPStatus) -> HttpResponse:
    logger.warning("webhook refused, nothing stored: %s", refusal)
    return _error(status, refusal.code, f"Nothing was stored: {refusal}.")


def _error(status: HTTPStatus, code: str, detail: str) -> JsonResponse:
    """An answer in the API's error shape."""
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "client_error"
    return JsonResponse(
        {"type": kind, "errors": [{"code": code, "detail": detail, "attr": None}]}, status=status
    )
