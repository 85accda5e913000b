"""Why a webhook is refused. No message holds a part of the body or a secret.

WebhookError
├── WebhookRefused          not a genuine, current event of our instance: 400
│   ├── InvalidSignature
│   ├── InvalidEvent
│   ├── ForeignInstance
│   └── BodyTooLarge        413
└── NoSigningSecret         nothing can be verified; the sender tries again: 503
"""

from http import HTTPStatus
from typing import ClassVar


class WebhookError(Exception):
    """Base class; only its subclasses are raised."""

    code: ClassVar[str]
    """The `code` of the answer."""

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST


class WebhookRefused(WebhookError):
    """Nothing was stored, and sending the same message again changes nothing."""


class InvalidSignature(WebhookRefused):
    """The message is not proven to be from Clerk, or its timestamp is not current."""

    code = "invalid_signature"


class InvalidEvent(WebhookRefused):
    """The message is from Clerk, but it is not an event."""

    code = "invalid_event"


class ForeignInstance(WebhookRefused):
    """The event is from another Clerk instance, such as the development one in production."""

    code = "foreign_instance"


class BodyTooLarge(WebhookRefused):
    """The body is larger than any event of Clerk."""

    code = "body_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class NoSigningSecret(WebhookError):
    """CLERK_WEBHOOK_SIGNING_SECRET holds no usable secret."""

    code = "webhooks_not_configured"
    status = HTTPStatus.SERVICE_UNAVAILABLE
