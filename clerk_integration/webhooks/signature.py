"""Whether a message is from Clerk: Svix's signature over its raw body.

The scheme and its replay window of five minutes are the library's. What the library does not do is
done here: Clerk's header names, several secrets, and a header that is malformed in part.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from standardwebhooks import Webhook, WebhookVerificationError

from clerk_integration.checks import is_webhook_signing_secret
from clerk_integration.webhooks.exceptions import InvalidSignature, NoSigningSecret

logger = logging.getLogger(__name__)

MAX_ID_LENGTH = 255
"""Characters of a message id, which is kept to recognise repeats."""

_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
"""Version and base64 of a SHA-256; the library raises anything but its own error for other forms."""


def verify(body: bytes, headers: Mapping[str, str], secrets: tuple[str, ...]) -> tuple[str, str]:
    """Return the message id and the body as text, if one of the secrets has signed them.

    `svix-signature` may hold several signatures, of several versions, some of them malformed: one
    valid v1 is enough. Raise InvalidSignature, or NoSigningSecret when none of `secrets` is usable.
    """
    webhooks = _webhooks(secrets)
    if not webhooks:
        raise NoSigningSecret("CLERK_WEBHOOK_SIGNING_SECRET is not set to a usable signing secret")
    text = _text(body)
    message_id = _message_id(headers)
    signed = {
        "webhook-id": message_id,
        "webhook-timestamp": _required(headers, "svix-timestamp"),
        "webhook-signature": " ".join(_signatures(headers)),
    }
    _verify_with_any(webhooks, text, signed)
    return message_id, text


def _verify_with_any(webhooks: tuple[Webhook, ...], text: str, headers: dict[str, str]) -> None:
    reason = ""
    for webhook in webhooks:
        try:
            webhook.verify(text, headers, json_parse=False)
        except WebhookVerificationError as error:
            reason = str(error)
        else:
            return
    raise InvalidSignature(reason)


@lru_cache(maxsize=4)
def _webhooks(secrets: tuple[str, ...]) -> tuple[Webhook, ...]:
    usable = tuple(Webhook(secret) for secret in secrets if is_webhook_signing_secret(secret))
    if len(usable) < len(secrets):
        logger.critical(
            "%d of %d values in CLERK_WEBHOOK_SIGNING_SECRET are no signing secrets and are not used",
            len(secrets) - len(usable),
            len(secrets),
        )
    return usable


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidSignature("the body is not UTF-8") from None


def _message_id(headers: Mapping[str, str]) -> str:
    message_id = _required(headers, "svix-id")
    # A full stop separates the signed parts, so that an id which holds one could be read in two ways.
    if len(message_id) > MAX_ID_LENGTH or not message_id.isascii() or not message_id.isprintable():
        raise InvalidSignature("svix-id is no message id")
    if "." in message_id:
        raise InvalidSignature("svix-id holds a full stop")
    return message_id


def _signatures(headers: Mapping[str, str]) -> Iterator[str]:
    found = [part for part in _required(headers, "svix-signature").split() if _SIGNATURE.fullmatch(part)]
    if not found:
        raise InvalidSignature("svix-signature holds no well-formed v1 signature")
    yield from found


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise InvalidSignature(f"no {name} header")
    return value
