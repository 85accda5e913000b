"""Faults on demand: what Clerk, or the network before it, may do to a request."""

import threading
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the next `times` requests that match `METHOD /path` (with * as wildcard).

    - `status`: answer with this status instead of doing anything (with `body`, when that is set);
    - `body`: answer 200 with these bytes instead of doing anything;
    - `rate_limit`: answer 429 with Retry-After of so many seconds;
    - `timeout_seconds`: do it, then hold the answer back;
    - `drop_after_commit`: do it, then close the connection without an answer.
    """

    match: str
    times: int
    status: int | None = None
    body: str | None = None
    rate_limit: int | None = None
    timeout_seconds: float | None = None
    drop_after_commit: bool = False

    def as_json(self) -> dict[str, Any]:
        """The fault as the control API shows it."""
        return {
            "match": self.match,
            "times": self.times,
            "status": self.status,
            "body": self.body,
            "rateLimit": self.rate_limit,
            "timeoutSeconds": self.timeout_seconds,
            "dropAfterCommit": self.drop_after_commit,
        }


class Faults:
    """The faults that wait for a request; the oldest that matches is used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let a fault wait."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Let none wait."""
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[Fault]:
        """Return the faults that wait, `times` being what is left."""
        with self._lock:
            return list(self._waiting)

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault for this request and use it up by one."""
        call = f"{method} {path}"
        with self._lock:
            for position, fault in enumerate(self._waiting):
                if fnmatchcase(call, fault.match):
                    left = replace(fault, times=fault.times - 1)
                    self._waiting[position : position + 1] = [left] if left.times else []
                    return fault
        return None
