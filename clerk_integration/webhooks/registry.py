"""The handlers of event types, which other apps register in `AppConfig.ready()`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SECONDS_END = 10_000_000_000
"""Timestamps below this are seconds: Clerk documents milliseconds, and its examples show seconds."""

MILLISECONDS_END = 253_402_300_800_000
"""The year 10000, the first that no `datetime` can hold."""


@dataclass(frozen=True, slots=True)
class ClerkEvent:
    """An event of Clerk. `data` is its JSON; `timestamp` is the envelope's, in milliseconds.

    `timestamp` is None if it is missing or implausible, for example in microseconds. The event is still
    accepted, because Clerk would repeat a refused event for a day and then disable the endpoint.
    """

    type: str
    data: Mapping[str, Any]
    timestamp: int | None

    @classmethod
    def from_json(cls, envelope: Mapping[str, Any]) -> "ClerkEvent":
        """Read an envelope. Its `type` and `data` were checked on arrival."""
        return cls(
            type=envelope["type"],
            data=envelope["data"],
            timestamp=_milliseconds(envelope.get("timestamp")),
        )


Handler = Callable[[ClerkEvent], None]

_handlers: dict[str, Handler] = {}


def register(event_type: str, handler: Handler) -> None:
    """Register `handler` for events of this type; raise ValueError if the type has a handler already.

    The handler runs in a worker, in the transaction that sets the delivery to processed. The handler may
    write rows and must not call Clerk. If the handler raises an exception, the error is stored and the
    handler is called again later.
    """
    if _handlers.setdefault(event_type, handler) is not handler:
        raise ValueError(f"{event_type} has a handler already")


def handler_of(event_type: str) -> Handler | None:
    """Return the handler of the type, or None if the type has none."""
    return _handlers.get(event_type)


def handled_types() -> list[str]:
    """Return the types that have a handler, sorted."""
    return sorted(_handlers)


def _milliseconds(stamp: Any) -> int | None:
    if not isinstance(stamp, int | float) or isinstance(stamp, bool) or not 0 <= stamp < MILLISECONDS_END:
        return None
    return int(stamp * 1000) if stamp < SECONDS_END else int(stamp)
