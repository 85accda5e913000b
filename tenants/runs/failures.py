"""Stop a batch if several items in a row fail for the same reason."""

from threading import Lock

MAX_ALIKE = 5
"""A batch stops after this many failures of one kind in a row: the next items would fail as well."""


class FailedAlike(Exception):
    """Several items in a row failed for the same reason, so the batch stopped. Finished items are kept."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class FailureStreak:
    """Counts failures of one kind in a row. Several threads may share an object."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kind = ""
        self._items: list[str] = []

    def add(self, item: str, *, kind: str, message: str) -> None:
        """Add the result of an item. `kind` is empty if the item succeeded, or failed by its own data.

        Raise FailedAlike, which names the items, after `MAX_ALIKE` failures of one kind in a row.
        """
        with self._lock:
            if kind != self._kind:
                self._kind, self._items = kind, []
            if kind:
                self._items.append(item)
            if len(self._items) >= MAX_ALIKE:
                items = ", ".join(self._items)
                raise FailedAlike(
                    f"{items} failed one after another for the same reason: {message}", kind=kind
                )
