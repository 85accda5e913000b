"""Strict reading of query strings, whose values arrive as lists of strings."""

import re
from collections.abc import Collection
from typing import ClassVar, Self

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.messages import VERSION_PARAMETER, Request
from clerk_integration.sandbox.parameters import MAX_INT64, Parameters, Unacceptable, bounded, optional

MAX_VALUES = 100

_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)


def text(values: list[str]) -> str | None:
    """Return the first value; None for an empty one."""
    return values[0] or None


def integer(values: list[str]) -> int:
    """Return a decimal integer; `10.0` is none."""
    if not _INTEGER.fullmatch(values[0]):
        raise Unacceptable("must be an integer")
    return int(values[0])


def boolean(values: list[str]) -> bool:
    """Return true or false."""
    if values[0] not in {"true", "false"}:
        raise Unacceptable("must be true or false")
    return values[0] == "true"


def values(given: list[str]) -> list[str]:
    """Return all values, at most 100."""
    if len(given) > MAX_VALUES:
        raise Unacceptable(f"takes up to {MAX_VALUES} values", "form_param_value_invalid")
    return given


class Signed:
    """Values that are prefixed with + (implied) for what to include, or - for what to exclude."""

    def __init__(self, values: Collection[str]) -> None:
        self.excluded = frozenset(value[1:] for value in values if value.startswith("-"))
        self.included = frozenset(value.removeprefix("+") for value in values if value[:1] != "-")

    def admits(self, *values: str) -> bool:
        """Return whether a record that has these values belongs to the result."""
        return self.excluded.isdisjoint(values) and not (self.included and self.included.isdisjoint(values))

    def __bool__(self) -> bool:
        return bool(self.included or self.excluded)


class Query(Parameters):
    """The parameters of a query string; as such, a query that takes none."""

    @classmethod
    def read(cls, request: Request) -> Self:
        """Return the parameters of a request's query string."""
        query = request.query.items()
        return cls.parse({name: values for name, values in query if name != VERSION_PARAMETER})


class Page(Query):
    """`limit` and `offset`."""

    limit: int = optional(lambda values: bounded(integer(values), 1, 500), 10)
    offset: int = optional(lambda values: bounded(integer(values), 0, MAX_INT64), 0)

    @property
    def page(self) -> slice:
        """The wanted part of the list."""
        return slice(self.offset, self.offset + self.limit)


class OrderedPage(Page):
    """`limit`, `offset` and `order_by`; a name without + or - is ascending."""

    orders: ClassVar[frozenset[str]]
    """The fields to order by."""

    order_by: str | None = optional(text)

    @property
    def order(self) -> tuple[str, bool]:
        """The field to order by, and whether descending; raise `form_param_value_invalid`."""
        value = self.order_by or "-created_at"
        name = value[1:] if value[0] in "+-" else value
        if name not in self.orders:
            detail = f"order_by must be one of {', '.join(sorted(self.orders))}."
            raise ApiError("form_param_value_invalid", detail, param="order_by")
        return name, value.startswith("-")
