"""What was called."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.messages import Request
from clerk_integration.sandbox.parameters import parse_json

MAX_ENTRIES = 10_000


@dataclass(slots=True)
class Entry:
    """One call of Clerk's API; `status` is None while, or because, it got no answer."""

    request: Request
    status: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry as the control API shows it; `body` is null when it was no JSON."""
        return {
            "method": self.request.method,
            "path": self.request.path,
            "query": dict(self.request.query),
            "status": self.status,
            "body": _parsed(self.request.raw_body),
        }


class RequestLog:
    """The latest calls, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)

    def open(self, request: Request) -> Entry:
        """Note a call as it arrives; its status follows."""
        entry = Entry(request)
        with self._lock:
            self._entries.append(entry)
        return entry

    def entries(self) -> list[Entry]:
        """Return what was noted."""
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        """Forget what was noted."""
        with self._lock:
            self._entries.clear()


def _parsed(raw_body: bytes) -> Any:
    try:
        return parse_json(raw_body)
    except ApiError:
        return None
