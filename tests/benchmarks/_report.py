"""What a benchmark found: rows for a person, figures for a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass
class Report:
    """A table, the same as figures, and the targets that were missed."""

    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Add a row."""
        self.rows.append([str(cell) for cell in cells])

    def require(self, target: str, held: bool) -> None:
        """Note whether a target was reached."""
        targets: dict[str, bool] = self.figures.setdefault("targets", {})
        targets[target] = held
        if not held:
            self.missed.append(target)


def print_report(report: Report) -> None:
    """Print the table and one line for each target."""
    console = Console(width=120)
    table = Table(*report.columns)
    for row in report.rows:
        table.add_row(*row)
    console.print(table)
    targets: Mapping[str, bool] = report.figures.get("targets", {})
    for target, held in targets.items():
        console.print(f"{'held  ' if held else 'MISSED'} {target}", highlight=False)
