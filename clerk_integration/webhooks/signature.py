"""Verify Svix's signature over the raw body, which proves that a message is from Clerk.

The scheme and its tolerance of five minutes are those of `standardwebhooks`. This module adds Clerk's header
names, several secrets, and support for signature headers of which only a part is well-formed.
"""

import logging
import re
from collections.abc import Mapping
from functools import lru_cache

from standardwebhooks import Webhook, WebhookVerificationError

from clerk_integration.conf import is_signing_secret
from clerk_integration.webhooks.exceptions import InvalidSignature, NoSigningSecret

logger = logging.getLogger(__name__)

MAX_ID_LENGTH = 255
"""Characters of a message id, which is stored to recognise repeats."""

_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
"""Version and base64 of a SHA-256; for other forms the library raises undocumented exceptions."""


class Verifier:
    """The headers of one message, checked as far as possible without the body.

    Raises InvalidSignature for headers that no genuine message has, and NoSigningSecret if there is no usable
    secret.
    """

    def __init__(self, headers: Mapping[str, str], secrets: tuple[str, ...]) -> None:
        self._webhooks = _webhooks(secrets)
        if not self._webhooks:
            raise NoSigningSecret("CLERK_WEBHOOK_SIGNING_SECRET is not set to a usable signing secret")
        self.message_id = _message_id(headers)
        self._signed = {
            "webhook-id": self.message_id,
            "webhook-timestamp": _required(headers, "svix-timestamp"),
            "webhook-signature": " ".join(_signatures(headers)),
        }

    def verify(self, body: bytes) -> str:
        """Return the body as text; raise InvalidSignature unless one of the secrets has signed the body.

        One valid v1 signature is enough.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise InvalidSignature("the body is not UTF-8") from None
        reason = ""
        for webhook in self._webhooks:
            try:
                webhook.verify(text, self._signed, json_parse=False)
            except WebhookVerificationError as error:
                reason = str(error)
            else:
                return text
        raise InvalidSignature(reason)


@lru_cache(maxsize=4)
def _webhooks(secrets: tuple[str, ...]) -> tuple[Webhook, ...]:
    usable = tuple(Webhook(secret) for secret in secrets if is_signing_secret(secret))
    if len(usable) < len(secrets):
        logger.critical(
            "%d of %d values in CLERK_WEBHOOK_SIGNING_SECRET are not signing secrets and are not used",
            len(secrets) - len(usable),
            len(secrets),
        )
    return usable


def _message_id(headers: Mapping[str, str]) -> str:
    message_id = _required(headers, "svix-id")
    if len(message_id) > MAX_ID_LENGTH or not message_id.isascii() or not message_id.isprintable():
        raise InvalidSignature("svix-id is not a message id")
    # The signed parts are joined by full stops: an id with a full stop could be split in two ways.
    if "." in message_id:
        raise InvalidSignature("svix-id holds a full stop")
    return message_id


def _signatures(headers: Mapping[str, str]) -> list[str]:
    found = [part for part in _required(headers, "svix-signature").split() if _SIGNATURE.fullmatch(part)]
    if not found:
        raise InvalidSignature("svix-signature holds no well-formed v1 signature")
    return found


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise InvalidSignature(f"no {name} header")
    return value
