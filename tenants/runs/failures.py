"""Stop a batch whose items fail one after the other for the same reason."""

from threading import Lock

MAX_ALIKE = 5
"""So many items in a row that failed alike stop a batch: the next ones would fail as well."""


class FailedAlike(Exception):
    """Several items in a row failed for the same reason, so the batch stopped. What is done is kept."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class FailureStreak:
    """Counts the items in a row that failed alike; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kind = ""
        self._items: list[str] = []

    def add(self, item: str, *, kind: str, message: str) -> None:
        """Add the result of an item; `kind` is empty if it did not fail, or by its own data only.

        Raise FailedAlike, which names the items, if this is the last of `MAX_ALIKE` in a row.
        """
        with self._lock:
            if kind != self._kind:
                self._kind, self._items = kind, []
            if kind:
                self._items.append(item)
            if len(self._items) >= MAX_ALIKE:
                items = ", ".join(self._items)
                raise FailedAlike(f"{items} failed one after the other alike: {message}", kind=kind)
