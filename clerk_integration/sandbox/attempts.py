"""One attempt to deliver a webhook. The signature and the rules for success are those of Svix."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import requests
from standardwebhooks import Webhook
from urllib3.exceptions import HTTPError

DEADLINE_SECONDS = 15.0
MAX_REPLY_BYTES = 64 * 1024
ABORT_HEADER, ABORT_VALUE = "webhook-delivery", "abort-message"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one attempt; `started_at` is in milliseconds since 1970."""

    started_at: int
    status: int | None
    error: str | None
    """None if the reply was 2xx and in time. A redirect is a failure."""
    aborted: bool = False
    """Whether the receiver asked for no further attempts."""

    def as_json(self) -> dict[str, Any]:
        """Return the attempt as the control API shows it."""
        return {"startedAt": self.started_at, "status": self.status, "error": self.error}


def new_session() -> requests.Session:
    """Return an HTTP session for one thread. The session ignores the proxy variables of the environment."""
    session = requests.Session()
    session.trust_env = False
    session.headers.update({"Content-Type": "application/json", "User-Agent": "Svix-Webhooks/sandbox"})
    return session


def attempt(
    session: requests.Session, url: str, message_id: str, body: str, secrets: Sequence[str]
) -> Attempt:
    """POST the message once and return the result. Return a failure as a result, too; raise nothing."""
    started_at, start = time.time_ns() // 1_000_000, time.monotonic()
    try:
        reply = session.post(
            url,
            data=body.encode(),
            headers=_signed(message_id, body, secrets),
            timeout=DEADLINE_SECONDS,
            allow_redirects=False,
            stream=True,
        )
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        return Attempt(started_at, None, f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - start
    with reply:
        # Read a short reply to its end, so that the next message can use the same connection.
        with suppress(HTTPError, OSError):
            reply.raw.read(MAX_REPLY_BYTES, decode_content=False)
        aborted = reply.headers.get(ABORT_HEADER) == ABORT_VALUE
        return Attempt(started_at, reply.status_code, _objection(reply.status_code, seconds), aborted)


def _signed(message_id: str, body: str, secrets: Sequence[str]) -> dict[str, str]:
    """Return the Svix headers for an attempt at the current time, with one signature per secret."""
    now = datetime.now(UTC)
    return {
        "svix-id": message_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": " ".join(Webhook(secret).sign(message_id, now, body) for secret in secrets),
    }


def _objection(status: int, seconds: float) -> str | None:
    if seconds > DEADLINE_SECONDS:
        return f"The answer took {seconds:.1f} s, more than {DEADLINE_SECONDS:.0f} s."
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return f"The answer was {status}, not 2xx."
    return None
