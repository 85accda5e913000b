"""What is read of a message, and what of it is kept."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from clerk_integration.entities import LARGEST_STAMP, MARKER_KEY, MAX_KEY_LENGTH, clean
from clerk_integration.webhooks.exceptions import InvalidEvent

MAX_DEPTH = 200
"""Levels of objects and lists; far more than any event of Clerk has, far fewer than Python can follow."""

ENVELOPE_KEYS = ("object", "type", "id", "timestamp", "instance_id")
"""What is kept of events that nobody here handles."""


_CONTAINERS = (dict, list)


@dataclass(frozen=True, slots=True)
class Event:
    """A message that is an event, as it may be stored: nothing private, nothing PostgreSQL refuses."""

    type: str
    instance_id: str
    organization_id: str | None
    payload: Mapping[str, Any]

    @property
    def envelope(self) -> Mapping[str, Any]:
        """What is left without the data."""
        return {key: self.payload[key] for key in ENVELOPE_KEYS if key in self.payload}


def read_event(text: str) -> Event:
    """Read the text of a verified message; raise InvalidEvent when it is none of Clerk's events.

    Clerk's specification requires object, type, instance_id and data. A missing timestamp is let
    pass, one that is no time is not.
    """
    try:
        payload = _decode(text)
        _remove_private_metadata(payload)
    except RecursionError:
        raise InvalidEvent("the JSON is nested too deeply") from None
    except ValueError:
        # The decoder's own message may repeat parts of the body.
        raise InvalidEvent("the body is no JSON") from None
    _check(payload)
    return Event(
        type=payload["type"],
        instance_id=payload["instance_id"],
        organization_id=_organization_id(payload["type"], payload["data"]),
        payload=payload,
    )


def _remove_private_metadata(value: Any, depth: int = 0) -> None:
    """Remove private and unsafe metadata at any depth, except our own marker in an organization's.

    In place, and called for objects and lists alone: of all that the receiver does in Python, this and
    the reading and writing of the JSON cost most.
    """
    if depth > MAX_DEPTH:
        raise RecursionError
    if type(value) is dict:
        private = value.pop("private_metadata", None)
        value.pop("unsafe_metadata", None)
        if type(private) is dict and value.get("object") == "organization" and private.get(MARKER_KEY):
            value["private_metadata"] = {MARKER_KEY: private[MARKER_KEY]}
        items: Iterable[Any] = value.values()
    elif type(value) is list:
        items = value
    else:
        return
    for item in items:
        if type(item) in _CONTAINERS:
            _remove_private_metadata(item, depth + 1)


def _decode(text: str) -> Any:
    """The JSON as PostgreSQL can hold it; the long way through `clean` only where something asks for it."""
    decoded = _decoder.decode(text)
    return clean(decoded) if _UNSTORABLE.search(text) else decoded


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(number: str) -> float | None:
    """As `clean` does it: a number too large for a float, such as 1e999, is none."""
    value = float(number)
    return value if math.isfinite(value) else None


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)

# Escapes of NUL and of surrogates. Text that was UTF-8 cannot hold surrogates themselves, and the decoder
# refuses a bare NUL.
_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def _check(payload: Any) -> None:
    if not isinstance(payload, Mapping):
        raise InvalidEvent("the body is no JSON object")
    if payload.get("object") != "event":
        raise InvalidEvent("`object` is not `event`")
    for key in ("type", "instance_id"):
        value = payload.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_KEY_LENGTH:
            raise InvalidEvent(f"`{key}` is no text of 1 to {MAX_KEY_LENGTH} characters")
    if not isinstance(payload.get("data"), Mapping):
        raise InvalidEvent("`data` is no object")
    if not _is_time_or_unknown(payload.get("timestamp")):
        raise InvalidEvent("`timestamp` is no time")


def _is_time_or_unknown(stamp: Any) -> bool:
    if stamp is None:
        return True
    return isinstance(stamp, int | float) and not isinstance(stamp, bool) and 0 <= stamp <= LARGEST_STAMP


def _organization_id(event_type: str, data: Mapping[str, Any]) -> str | None:
    """The organization that an event is about, to search by; None where it names none."""
    nested = data.get("organization")
    if event_type.startswith("organization."):
        found = data.get("id")
    elif isinstance(nested, Mapping):
        found = nested.get("id")
    else:
        found = data.get("organization_id")
    return found if isinstance(found, str) and 0 < len(found) <= MAX_KEY_LENGTH else None
