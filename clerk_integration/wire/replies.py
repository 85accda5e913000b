"""Read a reply of Clerk: return its JSON, or raise one of our errors.

The status and Clerk's error code in the raw body decide. The SDK's exception classes say less: the same 404
arrives as one of two classes, depending on the operation and the form of the body.

| status                                  | Clerk's code                    | error              |
| --------------------------------------- | ------------------------------- | ------------------ |
| 429                                     | any                             | ClerkRateLimited   |
| 408, 425, 5xx                           | any                             | ClerkUnavailable   |
| 1xx, 3xx, 401                           | any                             | ClerkMisconfigured |
| 403                                     | not of a slug, quota or limit   | ClerkMisconfigured |
| 403                                     | none: refused at Clerk's edge   | ClerkRejected      |
| other 4xx                               | none: the sender is not Clerk   | ClerkProtocolError |
| 404                                     | any                             | ClerkNotFound      |
| 409                                     | resource_locked                 | ClerkUnavailable   |
| other 4xx                               | any                             | ClerkRejected      |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from clerk_integration.entities import storable_text
from clerk_integration.exceptions import (
    ClerkError,
    ClerkMisconfigured,
    ClerkNotFound,
    ClerkProtocolError,
    ClerkRateLimited,
    ClerkRejected,
    ClerkUnavailable,
)
from clerk_integration.wire.decoding import decode

DEFAULT_RETRY_AFTER_SECONDS = 10.0
"""Clerk counts requests over ten seconds."""

MAX_RETRY_AFTER_SECONDS = 3600.0

MAX_MESSAGE_LENGTH = 500

_TRANSIENT_4XX = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
_REFUSED_DATA = ("slug", "quota", "limit")
"""Parts of the codes of those 403 that refuse the data, such as `organization_slugs_disabled`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply as received, with its body decompressed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of that name (case does not matter)."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def date(self) -> datetime | None:
        """The server's clock when it answered, in whole seconds; None without a readable Date header."""
        return _http_date(self.header("date") or "")

    def raise_for_status(self) -> None:
        """Raise the ClerkError that corresponds to an unsuccessful reply."""
        if not HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES:
            details = _Details.of(self)
            error = _error(self, details)
            error.trace_id = details.trace_id
            raise error

    def json(self) -> Any:
        """Return the body's JSON, or raise ClerkProtocolError."""
        try:
            return decode(self.body)
        except ValueError:
            raise ClerkProtocolError(
                f"Clerk answered {self.status}, but not with JSON "
                f"(content type {self.header('content-type')!r}). Check that CLERK_API_URL names Clerk."
            ) from None


@dataclass(frozen=True, slots=True)
class _Details:
    """The first error of Clerk's error body; empty strings for missing fields."""

    status: int
    code: str
    message: str
    param: str
    trace_id: str

    @classmethod
    def of(cls, reply: Reply) -> "_Details":
        try:
            body = _mapping(decode(reply.body))
        except ValueError:
            body = {}
        errors = body.get("errors")
        error = _mapping(errors[0] if isinstance(errors, list) and errors else None)
        return cls(
            status=reply.status,
            code=_text(error.get("code")),
            message=_text(error.get("long_message")) or _text(error.get("message")),
            param=_text(_mapping(error.get("meta")).get("param_name")),
            trace_id=_text(body.get("clerk_trace_id")),
        )

    def sentence(self, summary: str) -> str:
        status_and_code = f"{self.status} {self.code}".rstrip()
        end = f": {self.message}" if self.message else "."
        return f"{summary} ({status_and_code}){end}"


def _error(reply: Reply, details: _Details) -> ClerkError:
    status = details.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _rate_limited(reply)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_4XX:
        return ClerkUnavailable(details.sentence("Clerk cannot serve the request"))
    if status == HTTPStatus.FORBIDDEN and not details.code:
        # A firewall in front of Clerk refuses single requests, for example because of a URL in a name.
        return ClerkRejected(
            "Clerk's edge refused the request (403). Nothing was done.", code="forbidden", status_code=status
        )
    misconfigured = _misconfigured(details)
    if misconfigured:
        return ClerkMisconfigured(details.sentence(misconfigured))
    if not details.code:
        # The reply is not Clerk's. A proxy's 404 must never be read as "this organization is deleted".
        return ClerkProtocolError(
            f"The reply ({status}) does not have the form of Clerk's errors. Check that CLERK_API_URL names"
            " Clerk's Backend API, with /v1."
        )
    return _refused(details)


def _misconfigured(details: _Details) -> str | None:
    if details.status < HTTPStatus.BAD_REQUEST:
        return "CLERK_API_URL answers with a redirect, which was not followed"
    if details.status == HTTPStatus.UNAUTHORIZED:
        return "Clerk does not accept CLERK_SECRET_KEY"
    if details.status == HTTPStatus.FORBIDDEN and not any(part in details.code for part in _REFUSED_DATA):
        return "CLERK_SECRET_KEY's instance does not allow the request"
    return None


def _refused(details: _Details) -> ClerkError:
    if details.status == HTTPStatus.NOT_FOUND:
        return ClerkNotFound(details.sentence("Clerk does not know the object"))
    if details.status == HTTPStatus.CONFLICT and details.code == "resource_locked":
        message = details.sentence("Another request locks the object in Clerk; nothing was done")
        locked = ClerkUnavailable(message, outcome_unknown=False)
        locked.is_outage = False
        return locked
    return ClerkRejected(
        details.message or details.code,
        code=details.code,
        status_code=details.status,
        param=details.param or None,
    )


def _rate_limited(reply: Reply) -> ClerkRateLimited:
    seconds = _retry_after_seconds(reply.header("retry-after") or "")
    if seconds is None:
        seconds = DEFAULT_RETRY_AFTER_SECONDS
    return ClerkRateLimited(
        f"Clerk answered 429: too many requests. Nothing was done; try again in {seconds:.0f} s.",
        retry_after=seconds,
    )


def _retry_after_seconds(value: str) -> float | None:
    """Return the seconds of a Retry-After (a number or an HTTP date), 0 to 3600; None if unreadable."""
    try:
        seconds = float(value)
    except ValueError:
        date = _http_date(value)
        if date is None:
            return None
        seconds = (date - datetime.now(UTC)).total_seconds()
    return max(0.0, min(MAX_RETRY_AFTER_SECONDS, seconds))


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a date, or a year that Python cannot read
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return storable_text(value)[:MAX_MESSAGE_LENGTH]
