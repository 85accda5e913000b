"""The handlers of event types, which other apps register in `AppConfig.ready()`."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
BatchHandler = Callable[[Sequence[ClerkEvent]], None]

_handlers: dict[str, Handler] = {}
_batch_handlers: dict[str, BatchHandler] = {}


def register(event_type: str, handler: Handler) -> None:
    """Register `handler` for events of this type; raise ValueError if the type has a handler already.

    The handler runs in a worker, in the transaction that sets the delivery to processed. The handler may
    write rows and must not call Clerk. If the handler raises an exception, the error is stored and the
    handler is called again later.
    """
    if event_type in _batch_handlers or _handlers.setdefault(event_type, handler) is not handler:
        raise ValueError(f"{event_type} has a handler already")


def register_batch(event_type: str, handler: BatchHandler) -> None:
    """Register a handler that is called with many events at once, in any order; otherwise like `register`.

    The events of all types with the same handler come in one call. If the handler raises an exception, it is
    called again with one event at a time.
    """
    if event_type in _handlers or _batch_handlers.setdefault(event_type, handler) is not handler:
        raise ValueError(f"{event_type} has a handler already")


def handle(events: Iterable[ClerkEvent]) -> None:
    """Call the handlers of the events. Each event's type must have a handler."""
    batches: dict[BatchHandler, list[ClerkEvent]] = defaultdict(list)
    for event in events:
        if batch_handler := _batch_handlers.get(event.type):
            batches[batch_handler].append(event)
        else:
            _handlers[event.type](event)
    for batch_handler, batch in batches.items():
        batch_handler(batch)


def is_handled(event_type: str) -> bool:
    """Return whether the type has a handler."""
    return event_type in _handlers or event_type in _batch_handlers


def handled_types() -> list[str]:
    """Return the types that have a handler, sorted."""
    return sorted([*_handlers, *_batch_handlers])


def batched_types() -> list[str]:
    """Return the types that have a batch handler, sorted."""
    return sorted(_batch_handlers)


def _milliseconds(stamp: Any) -> int | None:
    if not isinstance(stamp, int | float) or isinstance(stamp, bool) or not 0 <= stamp < MILLISECONDS_END:
        return None
    return int(stamp * 1000) if stamp < SECONDS_END else int(stamp)
