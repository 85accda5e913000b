"""Faults on demand: what Clerk, or the network before it, may do to a request."""

import json
import secrets
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from clerk_integration.sandbox.errors import ApiError, code_for_status
from clerk_integration.sandbox.limits import too_many_requests
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.parameters import (
    ControlParameters,
    boolean,
    filled_text,
    integer,
    mapping,
    merged,
    number,
    optional,
    required,
    text,
)
from clerk_integration.sandbox.shapes import dump, error_json

KINDS = ("status", "body", "rate_limit", "timeout_seconds", "drop_after_commit", "reset", "patch", "then")

seconds = number(3600)


class Call(ControlParameters):
    """A call of one of Clerk's paths."""

    method: str = required(filled_text)
    path: str = required(filled_text)
    body: Mapping[str, Any] | None = optional(mapping)

    def request(self) -> Request:
        """Return the request that makes the call."""
        return Request(self.method, self.path, raw_body=dump(self.body or {}).encode())


class Fault(ControlParameters):
    """What happens to the next `times` requests that match `METHOD /path` (* is a wildcard).

    | kind              | what the request meets                                                         |
    | ----------------- | ------------------------------------------------------------------------------ |
    | `status`          | this status, nothing is done; the body is Clerk's error, or `body`             |
    | `body`            | these bytes (with 200, or `status`), nothing is done; see `contentType`        |
    | `rateLimit`       | 429 with Retry-After of so many seconds, nothing is done                       |
    | `reset`           | a connection reset, nothing is done                                            |
    | `timeoutSeconds`  | the reply, held back for so long; what was asked for is done at once           |
    | `dropAfterCommit` | a closed connection instead of the reply; what was asked for is done           |
    | `patch`           | the reply with this JSON merge patch (RFC 7396); what was asked for is done    |
    | `then`            | the reply; after it is made, another call (`method`, `path`, `body`) is made as |
    |                   | by hand in Clerk's dashboard: a list grows or shrinks while it is read         |
    """

    match: str = required(filled_text)
    times: int = optional(integer(1), 1)
    status: int | None = optional(integer(200, 599))
    body: str | None = optional(text)
    content_type: str = optional(text, "application/json")
    rate_limit: int | None = optional(integer())
    timeout_seconds: float = optional(seconds, 0.0)
    drop_after_commit: bool = optional(boolean, False)
    reset: bool = optional(boolean, False)
    patch: Mapping[str, Any] | None = optional(mapping)
    then: Call | None = optional(lambda value: Call.parse(mapping(value)))

    def as_json(self) -> dict[str, Any]:
        """Return the fault as the control API shows it."""
        return super().as_json() | {"then": self.then.as_json() if self.then else None}

    def require_kind(self) -> None:
        """Raise `form_param_missing` when nothing is to happen."""
        if self.given().keys().isdisjoint(KINDS):
            raise ApiError("form_param_missing", f"Give one of {', '.join(KINDS)}.", param="status")

    def matches(self, method: str, path: str) -> bool:
        """Return whether a request meets this fault."""
        return fnmatchcase(f"{method} {path}", self.match)

    def replacement(self) -> Reply | None:
        """Return the reply that stands in for Clerk's; None when the request is to be served."""
        if self.rate_limit is not None:
            return error_reply(too_many_requests(self.rate_limit))
        if self.body is not None:
            return Reply(self.status or 200, self.body.encode("utf-8", "replace"), self.content_type)
        if self.status is None:
            return None
        code = code_for_status(self.status)
        return error_reply(ApiError(code)) if code else Reply(self.status, b"")

    def patched(self, reply: Reply) -> Reply:
        """Return the reply with the patch, if there is one and the reply is a JSON object."""
        value = json.loads(reply.body) if self.patch is not None else None
        if self.patch is None or not isinstance(value, dict):
            return reply
        return Reply.of(merged(value, self.patch))


def error_reply(error: ApiError) -> Reply:
    """Return the reply that carries an error."""
    body = Reply.of(error_json(error, secrets.token_hex(16))).body
    return Reply(error.status, body, headers=error.headers)
