"""Read an event from a message, without the parts that are not stored."""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from clerk_integration.entities import LARGEST_STAMP, MARKER_KEY, MAX_DEPTH, MAX_KEY_LENGTH, clean
from clerk_integration.webhooks.exceptions import InvalidEvent
from clerk_integration.wire.decoding import decode, integer

ENVELOPE_KEYS = ("object", "type", "id", "timestamp", "instance_id")
"""Keys that are stored if the event type has no handler."""

_CONTAINERS = (dict, list)


@dataclass(frozen=True, slots=True)
class Event:
    """An event in its stored form: no private metadata, nothing that PostgreSQL cannot store."""

    type: str
    instance_id: str
    organization_id: str | None
    payload: Mapping[str, Any]

    @property
    def envelope(self) -> Mapping[str, Any]:
        """The payload without `data`."""
        return {key: self.payload[key] for key in ENVELOPE_KEYS if key in self.payload}


def read_event(text: str) -> Event:
    """Read the text of a verified message; raise InvalidEvent if it is not an event of Clerk.

    `object`, `type`, `instance_id` and `data` are required; `timestamp` is optional. Values nested deeper
    than MAX_DEPTH levels and numbers of thousands of digits become None. They are not refused, because Clerk
    would repeat a refused event for a day, and then disable the endpoint.
    """
    try:
        payload = _decode(text)
        try:
            _remove_private_metadata(payload)
        except RecursionError:
            payload = clean(payload)
            _remove_private_metadata(payload)
    except ValueError:
        # The decoder's own message may repeat parts of the body.
        raise InvalidEvent("the body is not JSON") from None
    _check(payload)
    return Event(
        type=payload["type"],
        instance_id=payload["instance_id"],
        organization_id=_organization_id(payload["type"], payload["data"]),
        payload=payload,
    )


def _remove_private_metadata(value: Any, depth: int = 0) -> None:
    """Remove private and unsafe metadata at any depth, in place; keep our own marker of organizations.

    Called only for objects and lists, because this is one of the receiver's most expensive steps.
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
    """Return the JSON in a form that PostgreSQL can store; call the slow decoders only if needed."""
    if not (_UNSTORABLE.search(text) or _LONG_INTEGER in text.encode().translate(_AS_ZERO)):
        with suppress(ValueError):  # It is not JSON, or nested too deeply, or a number is too large.
            return orjson.loads(text)
    try:
        return clean(_decoder.decode(text))
    except RecursionError:
        return clean(decode(text.encode()))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=integer)

# Escapes of NUL and surrogates. Text decoded from UTF-8 contains no unescaped surrogates, and the decoders
# refuse an unescaped NUL.
_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")

# Digits in a row that may be an integer of more than 64 bits, which orjson turns into a float. Replacing all
# digits by zeros and searching for 19 zeros is five times as fast as a regular expression.
_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = b"0" * 19


def _check(payload: Any) -> None:
    if not isinstance(payload, Mapping):
        raise InvalidEvent("the body is not a JSON object")
    if payload.get("object") != "event":
        raise InvalidEvent("`object` is not `event`")
    for key in ("type", "instance_id"):
        value = payload.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_KEY_LENGTH:
            raise InvalidEvent(f"`{key}` is not a text of 1 to {MAX_KEY_LENGTH} characters")
    if not isinstance(payload.get("data"), Mapping):
        raise InvalidEvent("`data` is not an object")
    if not _is_time_or_unknown(payload.get("timestamp")):
        raise InvalidEvent("`timestamp` is not a time")


def _is_time_or_unknown(stamp: Any) -> bool:
    if stamp is None:
        return True
    return isinstance(stamp, int | float) and not isinstance(stamp, bool) and 0 <= stamp <= LARGEST_STAMP


def _organization_id(event_type: str, data: Mapping[str, Any]) -> str | None:
    """Return the id of the event's organization, if the event names one. The id is used in searches."""
    nested = data.get("organization")
    if event_type.startswith("organization."):
        found = data.get("id")
    elif isinstance(nested, Mapping):
        found = nested.get("id")
    else:
        found = data.get("organization_id")
    return found if isinstance(found, str) and 0 < len(found) <= MAX_KEY_LENGTH else None
