"""Reasons to refuse a webhook. No message contains a part of the body or a secret.

WebhookError
├── WebhookRefused          not a genuine, current event of our instance: 400
│   ├── InvalidSignature
│   ├── InvalidEvent
│   ├── ForeignInstance
│   └── BodyTooLarge        413
└── NoSigningSecret         no signature can be verified; Clerk sends the message again: 503
"""

from http import HTTPStatus
from typing import ClassVar


class WebhookError(Exception):
    """Base class; only subclasses are raised."""

    code: ClassVar[str]
    """The `code` of the answer."""

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST


class WebhookRefused(WebhookError):
    """Nothing was stored. The same message will be refused again."""


class InvalidSignature(WebhookRefused):
    """The message is not proven to be from Clerk, or its timestamp is not current."""

    code = "invalid_signature"


class InvalidEvent(WebhookRefused):
    """The message is from Clerk, but is not an event."""

    code = "invalid_event"


class ForeignInstance(WebhookRefused):
    """The event is from another Clerk instance, for example a development event in production."""

    code = "foreign_instance"


class BodyTooLarge(WebhookRefused):
    """The body is larger than any event of Clerk."""

    code = "body_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class NoSigningSecret(WebhookError):
    """CLERK_WEBHOOK_SIGNING_SECRET holds no usable secret."""

    code = "webhooks_not_configured"
    status = HTTPStatus.SERVICE_UNAVAILABLE
