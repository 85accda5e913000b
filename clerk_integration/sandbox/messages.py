"""The request and the reply, independent of the HTTP server."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.shapes import dump

VERSION_PARAMETER = "__clerk_api_version"
MAX_PARAMETERS = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `path` is percent-encoded; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    raw_body: bytes = b""

    @classmethod
    def build(
        cls, method: str, target: str, headers: Iterable[tuple[str, str]], raw_body: bytes
    ) -> "Request":
        """Return the request; raise `bad_request` if `target` is not a valid request target."""
        try:
            parts = urlsplit(target)
            query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise ApiError("bad_request", "The request target cannot be read.") from None
        return cls(method, parts.path, query, {name.lower(): value for name, value in headers}, raw_body)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[], None] | None = None
    """A function to call after the reply is sent."""

    @classmethod
    def of(cls, result: Any) -> "Reply":
        """Return the reply for the result of a handler: a Reply, JSON text, or a JSON value."""
        if isinstance(result, Reply):
            return result
        return cls(200, (result if isinstance(result, str) else dump(result)).encode())


class NoReply(Exception):
    """The server must close the connection without a reply, with a TCP reset if `reset` is true."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset
