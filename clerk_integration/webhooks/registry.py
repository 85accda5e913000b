"""Which event types mean something here, and to whom.

This package knows how a webhook arrives, not what it means: apps register their handlers in
`AppConfig.ready()`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SECONDS_END = 10_000_000_000
"""Clerk's documents say milliseconds and its examples show seconds; below this it is seconds."""

MILLISECONDS_END = 253_402_300_800_000
"""The year 10000; from there on it is neither, and no `datetime` can hold it."""


@dataclass(frozen=True, slots=True)
class ClerkEvent:
    """An event of Clerk. `data` is its JSON, `timestamp` the envelope's, in milliseconds.

    None stands for a timestamp that is missing, and for one that no moment has, such as one in
    microseconds. The event is taken nevertheless: what it says stands in its data, and Clerk would
    repeat a refused one for a day and then disable the endpoint.
    """

    type: str
    data: Mapping[str, Any]
    timestamp: int | None

    @classmethod
    def from_json(cls, envelope: Mapping[str, Any]) -> "ClerkEvent":
        """Read an envelope whose `type` and `data` have been checked on arrival."""
        return cls(
            type=envelope["type"],
            data=envelope["data"],
            timestamp=_milliseconds(envelope.get("timestamp")),
        )


Handler = Callable[[ClerkEvent], None]

_handlers: dict[str, Handler] = {}


def register(event_type: str, handler: Handler) -> None:
    """Let `handler` process events of this type.

    It runs in a worker, inside the transaction that marks the delivery processed: it may write rows
    and must not call Clerk. What it raises is kept with the delivery, and it is called again later.
    Raise ValueError when the type has a handler already.
    """
    if _handlers.setdefault(event_type, handler) is not handler:
        raise ValueError(f"{event_type} has a handler already")


def handler_of(event_type: str) -> Handler | None:
    """Return the handler of the type; None when nobody here handles it."""
    return _handlers.get(event_type)


def handled_types() -> list[str]:
    """Return the types that have a handler, sorted."""
    return sorted(_handlers)


def _milliseconds(stamp: Any) -> int | None:
    if not isinstance(stamp, int | float) or isinstance(stamp, bool) or not 0 <= stamp < MILLISECONDS_END:
        return None
    return int(stamp * 1000) if stamp < SECONDS_END else int(stamp)
