"""The interface by which long work reports its progress."""

from typing import Protocol


class Progress(Protocol):
    """What `management.progress.CommandProgress` offers to long work."""

    def start(self, total: int | None, label: str) -> None:
        """Begin a part of the work."""

    def expect(self, total: int) -> None:
        """Correct the number of items of the running part."""

    def advance(self, n: int = 1) -> None:
        """Count items as done."""

    def note(self, line: str) -> None:
        """Print a line."""


class NoProgress:
    """Reports nothing."""

    def start(self, total: int | None, label: str) -> None:
        """Do nothing."""

    def expect(self, total: int) -> None:
        """Do nothing."""

    def advance(self, n: int = 1) -> None:
        """Do nothing."""

    def note(self, line: str) -> None:
        """Do nothing."""
