"""What a reply of Clerk means: its JSON, or one of our errors.

Decided by the status and Clerk's error code in the raw body alone. The SDK's exception classes say
less: the same 404 arrives as two of them, depending on the operation and the form of the body.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from clerk_integration.exceptions import (
    ClerkError,
    ClerkMisconfigured,
    ClerkNotFound,
    ClerkProtocolError,
    ClerkRateLimited,
    ClerkRejected,
    ClerkUnavailable,
)

DEFAULT_RETRY_AFTER_SECONDS = 10.0
"""Clerk's limits are counted over ten seconds."""

MAX_RETRY_AFTER_SECONDS = 3600.0

MAX_MESSAGE_LENGTH = 500

_TRANSIENT_4XX = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
_REFUSED_DATA = ("slug", "quota", "limit")
"""Parts of the codes of those 403 that speak of the data, such as `organization_slugs_disabled`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply as it came over the wire, its body decompressed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of that name (case does not matter)."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def date(self) -> datetime | None:
        """When the server answered, by its own clock, to the second; None without a readable Date."""
        return _http_date(self.header("date"))

    def raise_for_status(self) -> None:
        """Raise the ClerkError that an unsuccessful reply stands for."""
        if not HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES:
            raise _error_of(self)

    def json(self) -> Any:
        """Return the body's JSON, or raise ClerkProtocolError."""
        try:
            return _parsed(self.body)
        except (ValueError, RecursionError):
            raise ClerkProtocolError(
                f"Clerk answered {self.status}, but not with JSON "
                f"(content type {self.header('content-type')!r}). Check that CLERK_API_URL names Clerk."
            ) from None


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The first error of Clerk's error body; empty strings where it says nothing."""

    code: str = ""
    message: str = ""
    param: str | None = None
    trace_id: str | None = None


def _error_of(reply: Reply) -> ClerkError:
    """Return the error that an unsuccessful reply stands for."""
    refusal = _refusal(reply.body)
    status = reply.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _rate_limited(reply, refusal)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_4XX:
        return ClerkUnavailable(_told("Clerk cannot serve", status, refusal), trace_id=refusal.trace_id)
    if status == HTTPStatus.UNAUTHORIZED or status < HTTPStatus.BAD_REQUEST:
        return _misconfigured(status, refusal)
    if status == HTTPStatus.FORBIDDEN and not any(part in refusal.code for part in _REFUSED_DATA):
        return _misconfigured(status, refusal)
    return _refused(status, refusal)


def _refused(status: int, refusal: _Refusal) -> ClerkError:
    """Tell Clerk's own refusals from those of a stranger between us.

    A proxy's 404 must never be read as "this organization is gone".
    """
    if not refusal.code:
        return ClerkProtocolError(
            f"The reply ({status}) is not in the form of Clerk's errors. Check that CLERK_API_URL names "
            "Clerk's Backend API, with /v1.",
            trace_id=refusal.trace_id,
        )
    if status == HTTPStatus.NOT_FOUND:
        return ClerkNotFound(_told("Clerk does not know it", status, refusal), trace_id=refusal.trace_id)
    if status == HTTPStatus.CONFLICT and refusal.code == "resource_locked":
        message = _told("Clerk is busy with it; nothing was done", status, refusal)
        return ClerkUnavailable(message, outcome_unknown=False, trace_id=refusal.trace_id)
    return ClerkRejected(
        refusal.message or refusal.code,
        code=refusal.code,
        status_code=status,
        param=refusal.param,
        trace_id=refusal.trace_id,
    )


def _misconfigured(status: int, refusal: _Refusal) -> ClerkMisconfigured:
    if status < HTTPStatus.BAD_REQUEST:
        message = f"CLERK_API_URL answers with a redirect ({status}), which was not followed."
    elif status == HTTPStatus.UNAUTHORIZED:
        message = _told("Clerk does not accept CLERK_SECRET_KEY", status, refusal)
    else:
        message = _told("Clerk does not allow this to CLERK_SECRET_KEY's instance", status, refusal)
    return ClerkMisconfigured(message, trace_id=refusal.trace_id)


def _rate_limited(reply: Reply, refusal: _Refusal) -> ClerkRateLimited:
    told = retry_after_seconds(reply.header("retry-after"))
    seconds = DEFAULT_RETRY_AFTER_SECONDS if told is None else told
    return ClerkRateLimited(
        f"Clerk answered 429: too many requests. Nothing was done; try again in {seconds:.0f} s.",
        retry_after=seconds,
        trace_id=refusal.trace_id,
    )


def retry_after_seconds(value: str | None) -> float | None:
    """Read a Retry-After header (seconds or an HTTP date) as 0 to 3600 seconds; None if unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = _http_date(value)
        if moment is None:
            return None
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, min(MAX_RETRY_AFTER_SECONDS, seconds))


def _http_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _refusal(body: bytes) -> _Refusal:
    try:
        data = _parsed(body)
    except (ValueError, RecursionError):
        return _Refusal()
    if not isinstance(data, Mapping):
        return _Refusal()
    errors = data.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    error = first if isinstance(first, Mapping) else {}
    meta = error.get("meta")
    return _Refusal(
        code=_text(error.get("code")) or "",
        message=_text(error.get("long_message")) or _text(error.get("message")) or "",
        param=_text(meta.get("param_name")) if isinstance(meta, Mapping) else None,
        trace_id=_text(data.get("clerk_trace_id")),
    )


def _parsed(body: bytes) -> Any:
    return json.loads(body, parse_constant=lambda _: None)


def _text(value: Any) -> str | None:
    return value[:MAX_MESSAGE_LENGTH] if isinstance(value, str) and value else None


def _told(what: str, status: int, refusal: _Refusal) -> str:
    details = " ".join(part for part in (str(status), refusal.code) if part)
    return f"{what} ({details}): {refusal.message}" if refusal.message else f"{what} ({details})."
