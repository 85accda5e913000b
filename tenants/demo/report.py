"""What a demo prints: colours at a terminal, plain lines when piped."""

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console


class Report:
    """The lines of a demo, on standard output."""

    def __init__(self) -> None:
        # Lines are never broken: a token or a curl line must survive being copied.
        self._console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
        unicode = self._console.encoding.lower().startswith("utf")
        self._check, self._cross = ("✓", "✗") if unicode else ("ok", "FAILED")

    def line(self, text: str = "") -> None:
        """Print a line of plain text."""
        self._console.print(text)

    def heading(self, text: str) -> None:
        """Print the title of a part, after an empty line."""
        self._console.print(f"\n{text}", style="bold")

    def fact(self, label: str, value: str) -> None:
        """Print a value beside its label."""
        self._console.print(f"   {label:<15}{value}")

    def call(self, text: str) -> None:
        """Print an HTTP call and how it was answered."""
        self._console.print(f"   {text}", style="cyan")

    def records(self, records: Iterable[Any]) -> None:
        """Print what was answered, one record a line."""
        for record in records:
            self._console.print(f"     {json.dumps(record, ensure_ascii=not self._is_unicode)}")

    def verified(self, claim: str) -> None:
        """Print a claim that was held against what came back."""
        self._console.print(f"   {self._check} {claim}", style="green")

    def failed(self, claim: str) -> None:
        """Print a claim that did not hold."""
        self._console.print(f"   {self._cross} {claim}", style="bold red")

    @property
    def _is_unicode(self) -> bool:
        return self._check == "✓"
