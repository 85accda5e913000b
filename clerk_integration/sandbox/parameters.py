"""Strict reading of query strings and JSON bodies, with Clerk's refusals."""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from clerk_integration.sandbox.errors import ApiError

MAX_PAGE = 500
DEFAULT_PAGE = 10
MAX_VALUES = 100
MAX_NAME = 256
MAX_METADATA_BYTES = 8 * 1024
MAX_INT64 = 2**63 - 1

_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_SLUG = re.compile(r"(?=.*[a-z0-9])[a-z0-9-]+", re.ASCII)
_URL_OR_HTML = re.compile(r"https?://|www\.|<[^>]*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """A validated `order_by`."""

    field: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Signed:
    """Values of a parameter whose items may be prefixed with + or -."""

    included: frozenset[str]
    excluded: frozenset[str]

    def admits(self, value: str) -> bool:
        """Whether a record with this value belongs to the result."""
        return value not in self.excluded and (not self.included or value in self.included)

    def __bool__(self) -> bool:
        return bool(self.included or self.excluded)


class Query:
    """A query string of which only the named parameters are allowed."""

    def __init__(self, values: Mapping[str, list[str]], allowed: Collection[str]) -> None:
        refuse_unknown(values, allowed)
        self._values = values

    def text(self, name: str) -> str | None:
        """Return the first value; None when it is absent or empty."""
        return (self._values.get(name) or [""])[0] or None

    def integer(self, name: str) -> int | None:
        """Return a decimal integer; `10.0` is none."""
        value = self._values.get(name, [None])[0]
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise ApiError("form_param_format_invalid", f"{name} must be an integer.", param=name)
        return int(value)

    def boolean(self, name: str) -> bool | None:
        """Return true or false."""
        value = self._values.get(name, [None])[0]
        if value not in {None, "true", "false"}:
            raise ApiError("form_param_format_invalid", f"{name} must be true or false.", param=name)
        return None if value is None else value == "true"

    def values(self, name: str) -> list[str]:
        """Return all values, at most 100."""
        values = self._values.get(name, [])
        if len(values) > MAX_VALUES:
            raise ApiError("form_param_value_invalid", f"{name} takes up to {MAX_VALUES} values.", param=name)
        return values

    def signed(self, name: str) -> Signed:
        """Return all values, sorted by their + or - prefix; + is implied."""
        values = self.values(name)
        return Signed(
            frozenset(value.removeprefix("+") for value in values if not value.startswith("-")),
            frozenset(value[1:] for value in values if value.startswith("-")),
        )

    def order(self, fields: Collection[str], default: str = "-created_at") -> Order:
        """Return `order_by`; a name without + or - is ascending."""
        value = self.text("order_by") or default
        name = value[1:] if value[0] in "+-" else value
        if name not in fields:
            raise ApiError(
                "form_param_value_invalid", f"order_by must be one of {sorted(fields)}.", param="order_by"
            )
        return Order(name, value.startswith("-"))

    def page(self) -> slice:
        """Return the records that `limit` (1 to 500, default 10) and `offset` ask for."""
        limit = self._bounded("limit", DEFAULT_PAGE, 1, MAX_PAGE)
        offset = self._bounded("offset", 0, 0, MAX_INT64)
        return slice(offset, offset + limit)

    def _bounded(self, name: str, default: int, least: int, most: int) -> int:
        value = self.integer(name)
        if value is None:
            return default
        if not least <= value <= most:
            raise ApiError("form_param_value_invalid", f"{name} must be {least} to {most}.", param=name)
        return value


class Body:
    """A JSON object of which only the named members are allowed; null counts as absent."""

    def __init__(self, data: Mapping[str, Any], allowed: Collection[str]) -> None:
        refuse_unknown(data, allowed)
        self._data = data

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def given(self, name: str) -> bool:
        """Whether the member is there and not null."""
        return self._data.get(name) is not None

    def text(self, name: str) -> str | None:
        """Return a string."""
        value: str | None = self._typed(name, str, "a string")
        return value

    def required_text(self, name: str) -> str:
        """Return a string that must be there and not blank."""
        value = self.text(name)
        if value is None or not value.strip():
            raise ApiError("form_param_missing", f"{name} must be given.", param=name)
        return value

    def integer(self, name: str, least: int = 0) -> int | None:
        """Return an integer of at least `least` that fits 64 bits."""
        value: int | None = self._typed(name, int, "an integer")
        if isinstance(value, bool):
            _refuse_type(name, "an integer")
        if value is not None and not least <= value <= MAX_INT64:
            raise ApiError("form_param_value_invalid", f"{name} must be at least {least}.", param=name)
        return value

    def number(self, name: str) -> float | None:
        """Return a number that is not negative."""
        value = self._data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _refuse_type(name, "a number")
        if not 0 <= value <= MAX_INT64:
            raise ApiError("form_param_value_invalid", f"{name} must not be negative.", param=name)
        return float(value)

    def probability(self, name: str) -> float | None:
        """Return a number of 0 to 1; false and true stand for 0 and 1."""
        value = self._data.get(name)
        probability = float(value) if isinstance(value, bool) else self.number(name)
        if probability is not None and probability > 1:
            raise ApiError("form_param_value_invalid", f"{name} must be 0 to 1.", param=name)
        return probability

    def boolean(self, name: str) -> bool | None:
        """Return true or false."""
        value: bool | None = self._typed(name, bool, "a boolean")
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object."""
        value: dict[str, Any] | None = self._typed(name, dict, "an object")
        return value

    def texts(self, name: str) -> list[str] | None:
        """Return a list of strings."""
        values: list[Any] | None = self._typed(name, list, "a list")
        if values is not None and not all(isinstance(value, str) for value in values):
            _refuse_type(name, "a list of strings")
        return values

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """Return one of the given strings."""
        value = self.text(name)
        if value is not None and value not in choices:
            raise ApiError(
                "form_param_value_invalid", f"{name} must be one of {sorted(choices)}.", param=name
            )
        return value

    def metadata(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object of at most 8 KB."""
        value = self.mapping(name)
        require_metadata_size(name, value)
        return value

    def milliseconds(self, name: str) -> int | None:
        """Return an RFC 3339 time as milliseconds since 1970."""
        value = self.text(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise ApiError("form_param_format_invalid", f"{name} must be an RFC 3339 time.", param=name)
        return int(moment.timestamp() * 1000)

    def organization_name(self) -> str:
        """Return `name` as Clerk admits it: 1 to 256 characters, no URL, no HTML."""
        name = self.required_text("name")
        if len(name) > MAX_NAME:
            raise ApiError(
                "form_param_max_length_exceeded", f"name may have {MAX_NAME} characters.", param="name"
            )
        if _URL_OR_HTML.search(name):
            raise ApiError("form_param_value_invalid", "name may not contain URLs or HTML.", param="name")
        return name

    def slug(self) -> str | None:
        """Return `slug` as Clerk admits it: lower-case letters, digits and dashes."""
        slug = self.text("slug")
        if slug is not None and not _SLUG.fullmatch(slug):
            raise ApiError(
                "form_param_format_invalid",
                "slug may contain lower-case letters, digits and dashes only.",
                param="slug",
            )
        return slug

    def _typed(self, name: str, kind: type[Any], description: str) -> Any:
        value = self._data.get(name)
        if value is not None and not isinstance(value, kind):
            _refuse_type(name, description)
        return value


def refuse_unknown(names: Collection[str], allowed: Collection[str]) -> None:
    """Raise `form_param_unknown` for the first name that is not allowed."""
    for name in names:
        if name not in allowed:
            raise ApiError("form_param_unknown", f"{name} is not a valid parameter here.", param=name)


def require_metadata_size(name: str, value: Mapping[str, Any] | None) -> None:
    """Raise `form_param_exceeds_allowed_size` over 8 KB of UTF-8."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_METADATA_BYTES:
        raise ApiError("form_param_exceeds_allowed_size", f"{name} may have 8 KB.", param=name)


def parse_json(raw: bytes) -> Any:
    """Parse strict JSON in UTF-8; raise `request_body_invalid` for anything else."""
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise ApiError("request_body_invalid", "The body is not valid JSON.") from None


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object; an empty body is an empty object."""
    data = parse_json(raw) if raw.strip() else {}
    if not isinstance(data, dict):
        raise ApiError("request_body_invalid", "The body must be a JSON object.")
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _refuse_type(name: str, description: str) -> NoReturn:
    raise ApiError("form_param_format_invalid", f"{name} must be {description}.", param=name)
