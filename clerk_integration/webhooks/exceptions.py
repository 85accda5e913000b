"""Why a webhook is not taken.

WebhookError
├── WebhookRefused          the message is not a genuine, current event of our instance: 400
│   ├── InvalidSignature    headers, signature or age
│   ├── InvalidEvent        genuine, but no event that could be stored
│   └── ForeignInstance     a genuine event of another Clerk instance
└── NoSigningSecret         we cannot verify anything: the sender is not to blame and tries again
"""

from typing import ClassVar


class WebhookError(Exception):
    """Base of the tree; never raised itself. The message holds nothing of the body and no secret."""

    code: ClassVar[str]
    """What the answer's `code` says."""


class WebhookRefused(WebhookError):
    """Nothing was stored, and sending the same message again changes nothing."""

    code = "webhook_refused"


class InvalidSignature(WebhookRefused):
    """The message cannot be shown to be from Clerk, or is too old or too new."""

    code = "invalid_signature"


class InvalidEvent(WebhookRefused):
    """The message is from Clerk, but it is no event."""

    code = "invalid_event"


class ForeignInstance(WebhookRefused):
    """The event is of another Clerk instance, such as the development one in production."""

    code = "foreign_instance"


class NoSigningSecret(WebhookError):
    """CLERK_WEBHOOK_SIGNING_SECRET holds no secret that could be used."""

    code = "webhooks_not_configured"
