"""The interface by which long work reports its progress."""

from typing import Protocol


class Progress(Protocol):
    """The methods of `management.progress.CommandProgress` that long work calls."""

    def start(self, total: int | None, label: str) -> None:
        """Begin a part of the work with `total` items; None if the number of items is unknown."""

    def expect(self, total: int) -> None:
        """Correct the number of items of the current part."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more items of the current part as done."""

    def note(self, line: str) -> None:
        """Print a line."""


class NoProgress:
    """A Progress that reports nothing."""

    def start(self, total: int | None, label: str) -> None:
        """Do nothing."""

    def expect(self, total: int) -> None:
        """Do nothing."""

    def advance(self, n: int = 1) -> None:
        """Do nothing."""

    def note(self, line: str) -> None:
        """Do nothing."""
