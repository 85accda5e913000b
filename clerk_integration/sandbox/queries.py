"""Read query strings strictly. The value of a parameter is a list of strings, one for each occurrence."""

import re
from collections.abc import Collection
from typing import ClassVar, Self

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.messages import VERSION_PARAMETER, Request
from clerk_integration.sandbox.parameters import MAX_INT64, Parameters, Unacceptable, bounded, optional

MAX_VALUES = 100

_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)


def text(values: list[str]) -> str | None:
    """Return the first value, or None if it is empty."""
    return values[0] or None


def integer(values: list[str]) -> int:
    """Return the first value as an integer; raise Unacceptable for other text, such as `10.0`."""
    if not _INTEGER.fullmatch(values[0]):
        raise Unacceptable("must be an integer")
    return int(values[0])


def boolean(values: list[str]) -> bool:
    """Return the first value as a boolean."""
    if values[0] not in {"true", "false"}:
        raise Unacceptable("must be true or false")
    return values[0] == "true"


def values(given: list[str]) -> list[str]:
    """Return all values; raise Unacceptable for more than 100."""
    if len(given) > MAX_VALUES:
        raise Unacceptable(f"takes up to {MAX_VALUES} values", "form_param_value_invalid")
    return given


class Signed:
    """Values of a filter. The prefix - excludes records; the prefix + or no prefix includes records."""

    def __init__(self, values: Collection[str]) -> None:
        self.excluded = frozenset(value[1:] for value in values if value.startswith("-"))
        self.included = frozenset(value.removeprefix("+") for value in values if value[:1] != "-")

    def admits(self, *values: str) -> bool:
        """Return whether a record with these values passes the filter."""
        return self.excluded.isdisjoint(values) and not (self.included and self.included.isdisjoint(values))

    def __bool__(self) -> bool:
        return bool(self.included or self.excluded)


class Query(Parameters):
    """The parameters of a query string. This base class has no parameters."""

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
        """The slice of the list that `limit` and `offset` select."""
        return slice(self.offset, self.offset + self.limit)


class OrderedPage(Page):
    """`limit`, `offset` and `order_by`. The order is descending if the name has the prefix -."""

    orders: ClassVar[frozenset[str]]
    """The names that `order_by` accepts."""

    order_by: str | None = optional(text)

    @property
    def order(self) -> tuple[str, bool]:
        """The field of `order_by`, and True if descending; raise `form_param_value_invalid`."""
        value = self.order_by or "-created_at"
        name = value[1:] if value[0] in "+-" else value
        if name not in self.orders:
            detail = f"order_by must be one of {', '.join(sorted(self.orders))}."
            raise ApiError("form_param_value_invalid", detail, param="order_by")
        return name, value.startswith("-")
