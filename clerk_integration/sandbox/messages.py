"""A request and a reply, as the routes see them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.parameters import Body, Query, parse_object
from clerk_integration.sandbox.shapes import dump

VERSION_PARAMETER = "__clerk_api_version"
MAX_PARAMETERS = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `path` is percent-encoded, `segments` is not; header names are lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    raw_body: bytes

    @classmethod
    def build(
        cls, method: str, target: str, headers: Iterable[tuple[str, str]], raw_body: bytes
    ) -> "Request":
        """Split the request target; raise `bad_request` when it is none."""
        try:
            parts = urlsplit(target)
            query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise ApiError("bad_request", "The request target cannot be read.") from None
        return cls(method, parts.path, query, {name.lower(): value for name, value in headers}, raw_body)

    @property
    def segments(self) -> tuple[str, ...]:
        """The decoded parts of the path; an empty part stays, because it matches no route."""
        return tuple(unquote(part) for part in self.path.split("/")[1:])

    def parameters(self, *allowed: str) -> Query:
        """The query string, in which only these parameters may appear."""
        return Query(self.query, (*allowed, VERSION_PARAMETER))

    def body(self, *allowed: str) -> Body:
        """The JSON body, in which only these members may appear."""
        return Body(parse_object(self.raw_body), allowed)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def text(cls, text: str, status: int = 200) -> "Reply":
        """A reply of JSON that is text already."""
        return cls(status, text.encode())

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> "Reply":
        """A reply of a JSON value."""
        return cls(status, dump(value).encode(), headers=headers or {})
