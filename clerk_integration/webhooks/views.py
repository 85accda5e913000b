"""`POST /api/v1/webhooks/clerk` receives Clerk's webhooks.

The view is a plain Django view, so that it can handle many requests at once. The signature authenticates the
sender. There is no session, CSRF token or throttle, because a throttled sender would only repeat the request.
"""

import logging
from contextlib import suppress
from http import HTTPStatus

from django.db import Error, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from procrastinate.exceptions import ConnectorException

from clerk_integration.conf import clerk_settings
from clerk_integration.log_context import add_to_log
from clerk_integration.signals import delivery_stored
from clerk_integration.webhooks.exceptions import BodyTooLarge, InvalidEvent, NoSigningSecret, WebhookRefused
from clerk_integration.webhooks.inbox import store_delivery
from clerk_integration.webhooks.instances import check_instance
from clerk_integration.webhooks.payload import read_event
from clerk_integration.webhooks.refusals import recorder
from clerk_integration.webhooks.signature import Verifier

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
"""Far more bytes than any event of Clerk has."""

RETRY_AFTER_SECONDS = 5
"""The first retry delay of Svix."""

_META_KEYS = {f"svix-{name}": f"HTTP_SVIX_{name.upper()}" for name in ("id", "timestamp", "signature")}

TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes"


@csrf_exempt
@transaction.non_atomic_requests
def receive_webhook(request: HttpRequest) -> HttpResponse:
    """Answer 204 if the event is stored, also for a repeated event; store nothing otherwise.

    Length and svix headers are checked before the body is read.

    400 for a message that is not a genuine, current event of our instance, 413 for a body that is too large,
    405 for other methods. 503 if the event could not be stored or no signing secret is configured; Clerk then
    sends the event again. The log contains the reason.
    """
    if request.method != "POST":
        answer = _error(
            HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f'Method "{request.method}" not allowed.'
        )
        answer.headers["Allow"] = "POST"
        return answer
    try:
        _receive(request)
    except WebhookRefused as refusal:
        logger.warning("webhook refused, nothing stored: %s", refusal)
        recorder.record(refusal)
        return _error(refusal.status, refusal.code, f"Nothing was stored: {refusal}.")
    except NoSigningSecret as error:
        logger.critical("webhook not stored: %s", error)
        recorder.record(error)
        return _error(error.status, error.code, "This server cannot verify webhooks.")
    except (Error, ConnectorException) as error:
        logger.error("webhook not stored: %s", _without_row(error))  # noqa: TRY400  (see _without_row)
        return _error(
            HTTPStatus.SERVICE_UNAVAILABLE, "not_stored", "The event was not stored. Send it again."
        )
    return HttpResponse(status=HTTPStatus.NO_CONTENT)


def _receive(request: HttpRequest) -> None:
    _check_declared_length(request)
    verifier = Verifier(_svix_headers(request), clerk_settings.webhook_signing_secrets)
    add_to_log(svix_id=verifier.message_id)
    event = read_event(verifier.verify(_read_body(request)))
    add_to_log(organization=event.organization_id)
    check_instance(event.instance_id)
    is_new = store_delivery(verifier.message_id, event)
    delivery_stored.send_robust(sender=None, event_type=event.type, is_new=is_new)


def _svix_headers(request: HttpRequest) -> dict[str, str]:
    """Return the headers of the signature. `request.headers` would first convert the names of all headers."""
    return {name: request.META.get(key, "") for name, key in _META_KEYS.items()}


def _check_declared_length(request: HttpRequest) -> None:
    with suppress(ValueError):
        if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            raise BodyTooLarge(TOO_LARGE)


def _read_body(request: HttpRequest) -> bytes:
    try:
        body: bytes = request.read(MAX_BODY_BYTES + 1)
    except UnreadablePostError:
        raise InvalidEvent("the connection ended within the body") from None
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(TOO_LARGE)
    return body


def _without_row(error: Exception) -> str:
    """Return the database's main message. Its details and the traceback may contain the event."""
    cause = error.__cause__ or error
    diagnostics = getattr(cause, "diag", None)
    primary = getattr(diagnostics, "message_primary", None) or "the database cannot be reached"
    return f"{type(cause).__name__} {getattr(cause, 'sqlstate', None) or ''}: {primary}"


def _error(status: HTTPStatus, code: str, detail: str) -> JsonResponse:
    """Return a response in the API's error format."""
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return JsonResponse(
        {
            "type": "server_error" if is_ours else "client_error",
            "errors": [{"code": code, "detail": detail, "attr": None}],
        },
        status=status,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)} if is_ours else None,
    )
