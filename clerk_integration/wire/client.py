"""Requests to Clerk through one SDK client per process. Only our own exceptions leave this module.

Calls go through the methods of Clerk's official SDK, which knows paths and parameters. The SDK's return
values are not used: its models drop unknown fields and refuse a page of 500 records for one null slug. The
functions here return the received JSON, and map an unsuccessful reply to an error.

Importing this module is cheap. The first call imports the SDK, which takes half a second.
"""

import atexit
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.db import connections

from clerk_integration.conf import JWKS_TIMEOUT_SECONDS, clerk_settings
from clerk_integration.exceptions import (
    ClerkCalledInTransaction,
    ClerkError,
    ClerkMisconfigured,
    ClerkProtocolError,
    ClerkRateLimited,
    ClerkRejected,
    ClerkUnavailable,
)
from clerk_integration.wire.api_url import api_url_error
from clerk_integration.wire.breaker import guarded_read, guarded_write
from clerk_integration.wire.deadlines import clerk_deadline, default_deadline, remaining_seconds
from clerk_integration.wire.pace import postpone, use_slot
from clerk_integration.wire.replies import Reply

if TYPE_CHECKING:
    import httpx
    from clerk_backend_api import Clerk

Operation = Callable[["Clerk"], object]
"""A call of one SDK method, such as `lambda clerk: clerk.jwks.get_jwks()`."""

logger = logging.getLogger(__name__)

READ_ATTEMPTS = 3
FIRST_RETRY_SECONDS = 0.1
"""The first pause between two attempts; it doubles, and a random part is added."""

_SENDABLE_KEY = re.compile(r"[!-~]+")
"""Visible ASCII: the HTTP library's error message would quote a key with anything else."""


class _Client:
    """The SDK client of this process. Built by the first call, and again after a fork or changed settings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: tuple[tuple[str, str], Clerk, httpx.Client] | None = None
        self._of_parent: list[object] = []

    def get(self) -> "Clerk":
        """Return the client; raise ClerkMisconfigured if the key or the URL is invalid."""
        wanted = (_secret_key(), _api_url())
        with self._lock:
            if self._built is None or self._built[0] != wanted:
                self._close()
                self._built = (wanted, *_build(*wanted))
            return self._built[1]

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        with self._lock:
            self._close()

    def forget_after_fork(self) -> None:
        """Do not use or close the parent's connections in a forked child: both processes would share them.

        The objects are kept, so that no finalizer closes the sockets. The lock is replaced, because a thread
        that does not exist in the child may hold the old lock.
        """
        self._of_parent.append(self._built)
        self._built = None
        self._lock = threading.Lock()

    def _close(self) -> None:
        if self._built is not None:
            self._built[2].close()
            self._built = None


_client = _Client()
os.register_at_fork(after_in_child=_client.forget_after_fork)
atexit.register(_client.close)


def read(operation: Operation) -> Reply:
    """Call an SDK method that only reads; return the successful reply.

    Sends the request up to three times while Clerk is unavailable. Sends it again after a 429 if the wait
    that Clerk names fits into the deadline (default: CLERK_TIMEOUT_SECONDS). Raises ClerkError and
    ClerkCalledInTransaction.
    """
    _client.get()  # The import of the SDK may take longer than a request. It is not a wait for Clerk.
    with default_deadline(), guarded_read() as is_trial:
        for attempt in range(1, 1 if is_trial else READ_ATTEMPTS):
            try:
                return _send(operation)
            except ClerkUnavailable as exc:
                _pause(attempt, exc)
        return _send(operation)


def write(operation: Operation) -> Reply:
    """Call an SDK method that changes something; return the successful reply.

    Sends the request once, because Clerk has no idempotency keys. Raises ClerkError and
    ClerkCalledInTransaction. After an error whose `outcome_unknown` is true, the change may have happened.
    """
    _client.get()
    with default_deadline(), guarded_write():
        return _send(operation)


def fetch_jwks() -> list[dict[str, Any]]:
    """Return the keys that sign session tokens, as raw JWKs of Clerk's JWKS.

    Sends one GET without retries, within three seconds. Raises ClerkError and ClerkCalledInTransaction.
    """
    with clerk_deadline(JWKS_TIMEOUT_SECONDS):
        data = _send(lambda clerk: clerk.jwks.get_jwks()).json()
    keys = data.get("keys") if isinstance(data, Mapping) else None
    if not isinstance(keys, list):
        raise ClerkProtocolError("Clerk's JWKS holds no list of keys. Check that CLERK_API_URL names Clerk.")
    return [key for key in keys if isinstance(key, dict)]


def _send(operation: Operation) -> Reply:
    """Wait for the rate limit, send one request, and return its successful reply or raise its error."""
    _refuse_open_transaction()
    clerk = _client.get()
    use_slot()
    reply = _exchange(clerk, operation)
    try:
        reply.raise_for_status()
    except ClerkRateLimited as limited:
        postpone(limited.retry_after)
        raise
    return reply


def _exchange(clerk: "Clerk", operation: Operation) -> Reply:
    """Call the SDK and return the received reply.

    Exceptions of the SDK are not chained, because they quote bodies, including private metadata.
    """
    import httpx  # noqa: PLC0415  (see the module's docstring)

    from clerk_integration.wire.transport import recorded_replies  # noqa: PLC0415

    with recorded_replies() as replies:
        try:
            operation(clerk)
        except ClerkError:
            raise  # The transport's: no whole reply came.
        except Exception as exc:
            # Once a reply is recorded (ReplyRecorded), an error of the SDK must not pass for "not sent".
            if replies:
                return replies[-1]
            if isinstance(exc, (httpx.HTTPError, httpx.InvalidURL)):
                kind = type(exc).__name__
                raise ClerkMisconfigured(
                    f"CLERK_API_URL cannot be called ({kind}). Nothing was sent."
                ) from None
            if isinstance(exc, ValueError):
                raise ClerkRejected(
                    f"The value cannot be sent to Clerk's API ({type(exc).__name__}). Nothing was sent.",
                    code="request_invalid",
                    status_code=HTTPStatus.UNPROCESSABLE_ENTITY,
                ) from None
            raise
    return replies[-1]


def _pause(attempt: int, failure: ClerkUnavailable) -> None:
    """Wait before the next attempt; raise `failure` if the wait does not fit into the deadline."""
    seconds = FIRST_RETRY_SECONDS * 2 ** (attempt - 1)
    seconds += random.uniform(0, seconds)  # noqa: S311  (jitter, not security)
    if isinstance(failure, ClerkRateLimited):
        seconds += failure.retry_after
    if seconds >= remaining_seconds():
        raise failure
    logger.info("Asking Clerk again in %.1f s (attempt %d): %s", seconds, attempt + 1, failure)
    time.sleep(seconds)


def _refuse_open_transaction() -> None:
    """Raise ClerkCalledInTransaction inside `atomic`, except in the transaction of a Django TestCase."""
    for connection in connections.all(initialized_only=True):
        if any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
            raise ClerkCalledInTransaction(
                f"Clerk was called inside a transaction on the database {connection.alias!r}. Nothing "
                "was sent. Call Clerk first, then open the transaction."
            )


def _secret_key() -> str:
    key = clerk_settings.secret_key
    if not key:
        raise ClerkMisconfigured("CLERK_SECRET_KEY is not set. Nothing was sent to Clerk.")
    if not _SENDABLE_KEY.fullmatch(key):
        raise ClerkMisconfigured("CLERK_SECRET_KEY holds characters that no Clerk key has. Nothing was sent.")
    return key


def _api_url() -> str:
    """Return CLERK_API_URL; servers do not run the system checks that report the same error."""
    error = api_url_error(clerk_settings.api_url)
    if error is not None:
        raise ClerkMisconfigured(f"CLERK_API_URL {error}. Nothing was sent to Clerk.")
    return clerk_settings.api_url


def _build(secret_key: str, api_url: str) -> "tuple[Clerk, httpx.Client]":
    import httpx  # noqa: PLC0415  (see the module's docstring)
    from clerk_backend_api import Clerk  # noqa: PLC0415

    from clerk_integration.wire.transport import DeadlineTransport  # noqa: PLC0415

    tls = httpx.create_ssl_context(trust_env=False) if api_url.startswith("https:") else None
    client = httpx.Client(transport=DeadlineTransport(tls), follow_redirects=False, trust_env=False)
    sdk = Clerk(
        bearer_auth=secret_key,
        server_url=api_url,
        client=client,
        # Never used. Otherwise the SDK would build one with its own TLS context and close it in a finalizer.
        async_client=httpx.AsyncClient(transport=httpx.AsyncBaseTransport(), trust_env=False),
        retry_config=None,  # The SDK's default also repeats POST requests, for up to an hour.
    )
    return sdk, client
