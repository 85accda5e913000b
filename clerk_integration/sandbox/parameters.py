"""Read JSON bodies strictly, and raise Clerk's errors for invalid ones.

A route declares its parameters as a class whose fields say how each value is read:

    class RoleChange(Parameters):
        role: str = required(filled_text)
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, ClassVar, NoReturn, Self

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.messages import Request

MAX_NAME = 256
MAX_METADATA_BYTES = 8 * 1024
MAX_INT64 = 2**63 - 1

_SLUG = re.compile(r"(?=.*[a-z0-9])[a-z0-9-]+", re.ASCII)
_URL_OR_HTML = re.compile(r"https?://|www\.|<[^>]*>", re.IGNORECASE)

Read = Callable[[Any], Any]
"""Reads a JSON value and returns the value to use; raises Unacceptable for an invalid value."""


class Unacceptable(Exception):
    """A value is invalid; `code` is Clerk's error code."""

    def __init__(self, reason: str, code: str = "form_param_format_invalid") -> None:
        super().__init__(reason)
        self.code = code


def required(read: Read) -> Any:
    """Declare a required parameter."""
    return field(metadata={"read": read})


def optional(read: Read, default: Any = None) -> Any:
    """Declare an optional parameter."""
    return field(default=default, metadata={"read": read})


class Parameters:
    """The parameters of a request. An unknown name is an error. Null means not sent, see `keeps_null`."""

    camel_case: ClassVar[bool] = False
    keeps_null: ClassVar[bool] = False
    """Whether a null that is sent is kept as None, instead of counting as not sent."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Return the parameters; raise ApiError for the first error. Check for unknown names first."""
        declared = {cls.sent_name(item.name): item for item in fields(cls)}  # type: ignore[arg-type]
        for name in data:
            if name not in declared:
                raise ApiError("form_param_unknown", f"{name} is not a valid parameter here.", param=name)
        given: dict[str, Any] = {}
        for name, item in declared.items():
            if data.get(name) is not None:
                given[item.name] = _read(name, item.metadata["read"], data[name])
            elif cls.keeps_null and name in data:
                given[item.name] = None
            elif item.default is MISSING:
                raise ApiError("form_param_missing", f"{name} must be given.", param=name)
        parsed = cls(**given)
        parsed.__dict__["_given"] = given
        return parsed

    @classmethod
    def read(cls, request: Request) -> Self:
        """Return the parameters in the JSON body of a request."""
        return cls.parse(parse_object(request.raw_body))

    def given(self) -> dict[str, Any]:
        """Return the parameters that were sent, by field name."""
        return dict(self.__dict__["_given"])

    def changed(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[type-var]

    @classmethod
    def sent_name(cls, name: str) -> str:
        """Return the JSON name of a field."""
        first, *others = name.split("_")
        return first + "".join(map(str.title, others)) if cls.camel_case else name

    def as_json(self) -> dict[str, Any]:
        """Return all parameters by JSON name."""
        return {self.sent_name(item.name): getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]


class ControlParameters(Parameters):
    """The parameters of a request to the control API. The JSON names are in camelCase."""

    camel_case = True


def _read(name: str, read: Read, value: Any) -> Any:
    try:
        return read(value)
    except Unacceptable as error:
        raise ApiError(error.code, f"{name} {error}.", param=name) from None


# --- values of a JSON body -------------------------------------------------------------------------


def is_a(kind: type[Any], description: str) -> Read:
    """Return a function that reads values of one type; `description` names the type in errors."""

    def read(value: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Unacceptable(f"must be {description}")
        return value

    return read


text = is_a(str, "a string")
boolean = is_a(bool, "true or false")
mapping = is_a(dict, "an object")


def filled_text(value: Any) -> Any:
    """Return the string; raise Unacceptable if it is blank."""
    if not text(value).strip():
        raise Unacceptable("must not be blank", "form_param_missing")
    return value


def texts(value: Any) -> Any:
    """Return a list of strings."""
    return [text(item) for item in is_a(list, "a list of strings")(value)]


def choice(*choices: str) -> Read:
    """Return a function that reads one of the strings in `choices`."""

    def read(value: Any) -> Any:
        if text(value) not in choices:
            raise Unacceptable(f"must be one of {', '.join(choices)}", "form_param_value_invalid")
        return value

    return read


def bounded(value: Any, least: float, most: float) -> Any:
    """Return the number; raise Unacceptable unless it is from `least` to `most`."""
    if not least <= value <= most:
        limits = f"{least:g} or more" if most == MAX_INT64 else f"{least:g} to {most:g}"
        raise Unacceptable(f"must be {limits}", "form_param_value_invalid")
    return value


def integer(least: int = 0, most: int = MAX_INT64) -> Read:
    """Return a function that reads integers from `least` to `most`."""
    return lambda value: bounded(is_a(int, "an integer")(value), least, most)


def number(most: float = MAX_INT64) -> Read:
    """Return a function that reads numbers from 0 to `most`."""
    return lambda value: float(bounded(is_a((int, float), "a number")(value), 0, most))  # type: ignore[arg-type]


def organization_name(value: Any) -> Any:
    """Return the name; raise Unacceptable unless it has 1 to 256 characters, no URL and no HTML."""
    if len(filled_text(value)) > MAX_NAME:
        raise Unacceptable(f"may have {MAX_NAME} characters", "form_param_max_length_exceeded")
    if _URL_OR_HTML.search(value):
        raise Unacceptable("may not contain URLs or HTML", "form_param_value_invalid")
    return value


def slug(value: Any) -> Any:
    """Return the slug; raise Unacceptable unless Clerk accepts it."""
    if not _SLUG.fullmatch(text(value)):
        raise Unacceptable("may contain lower-case letters, digits and dashes only")
    return value


def metadata(value: Any) -> Any:
    """Return the JSON object; raise Unacceptable if it is larger than 8 KB in UTF-8."""
    content = json.dumps(mapping(value), separators=(",", ":"), ensure_ascii=False)
    if len(content.encode("utf-8", "surrogatepass")) > MAX_METADATA_BYTES:
        raise Unacceptable("may have 8 KB", "form_param_exceeds_allowed_size")
    return value


def milliseconds(value: Any) -> int:
    """Return an RFC 3339 time as milliseconds since 1970."""
    try:
        time = datetime.fromisoformat(text(value))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise Unacceptable("must be an RFC 3339 time")
    return int(time.timestamp() * 1000)


def merged(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `stored` merged with `changes` as Clerk does it: at every level, and null removes a key."""
    result = dict(stored)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result


# --- JSON ------------------------------------------------------------------------------------------


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
