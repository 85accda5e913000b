"""Faults: simulated failures of Clerk, or of the network between the client and Clerk."""

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
    """A request to Clerk's API that the sandbox makes itself."""

    method: str = required(filled_text)
    path: str = required(filled_text)
    body: Mapping[str, Any] | None = optional(mapping)

    def request(self) -> Request:
        """Return the call as a Request."""
        return Request(self.method, self.path, raw_body=dump(self.body or {}).encode())


class Fault(ControlParameters):
    """A fault of the next `times` requests that match `match`, "METHOD /path" (* is a wildcard).

    | kind              | executed? | result of the request                                              |
    | ----------------- | --------- | ------------------------------------------------------------------ |
    | `status`          | no        | this HTTP status; the body is Clerk's error, or `body`             |
    | `body`            | no        | this body, with status 200 or `status`; see `contentType`          |
    | `rateLimit`       | no        | 429; the value is the number of seconds in Retry-After             |
    | `reset`           | no        | a connection reset                                                 |
    | `timeoutSeconds`  | yes       | the reply, after a delay; the request is executed before the delay |
    | `dropAfterCommit` | yes       | a closed connection without a reply                                |
    | `patch`           | yes       | the reply, changed by this JSON merge patch (RFC 7396)             |
    | `then`            | yes       | the reply; before it is sent, the sandbox also makes the call      |
    |                   |           | `method`, `path`, `body`, for example to change a list that a      |
    |                   |           | client reads page by page                                          |
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
        """Raise `form_param_missing` unless the fault has at least one of KINDS."""
        if self.given().keys().isdisjoint(KINDS):
            raise ApiError("form_param_missing", f"Give one of {', '.join(KINDS)}.", param="status")

    def matches(self, method: str, path: str) -> bool:
        """Return whether the fault applies to a request."""
        return fnmatchcase(f"{method} {path}", self.match)

    def replacement(self) -> Reply | None:
        """Return the reply if the request must not be executed, or None if the request must be executed."""
        if self.rate_limit is not None:
            return error_reply(too_many_requests(self.rate_limit))
        if self.body is not None:
            return Reply(self.status or 200, self.body.encode("utf-8", "replace"), self.content_type)
        if self.status is None:
            return None
        code = code_for_status(self.status)
        return error_reply(ApiError(code)) if code else Reply(self.status, b"")

    def patched(self, reply: Reply) -> Reply:
        """Return the reply with `patch` applied; unchanged if `patch` is None or the reply no JSON object."""
        value = json.loads(reply.body) if self.patch is not None else None
        if self.patch is None or not isinstance(value, dict):
            return reply
        return Reply.of(merged(value, self.patch))


def error_reply(error: ApiError) -> Reply:
    """Return the reply for an error."""
    body = Reply.of(error_json(error, secrets.token_hex(16))).body
    return Reply(error.status, body, headers=error.headers)
