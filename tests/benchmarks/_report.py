"""The result of a benchmark: rows for a person, figures for a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks._turns import Turns

COLUMNS = ("measured", "way", "median", "lowest", "highest", "ours to this")


@dataclass
class Report:
    """A table, the same as figures, and the targets that were missed."""

    columns: Sequence[str] = COLUMNS
    rows: list[Sequence[str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Add a row."""
        self.rows.append([str(cell) for cell in cells])

    def compare(self, measured: str, turns: Turns, *, unit: str, scale: float = 1) -> None:
        """Add the range of each way, and of the ratio of the first way (ours) to it.

        The measurements are multiplied by `scale` to be in `unit`. Call this method only with COLUMNS.
        """
        ours, *_ = turns.samples
        figures: dict[str, Any] = {"unit": unit, "ways": {}, "ratios": {}}
        for way, samples in turns.samples.items():
            scaled = Turns({way: [value * scale for value in samples]}).of(way)
            ratio = turns.ratio(ours, way)
            cells = [f"{value:,.4g} {unit}" for value in scaled.rounded()]
            beside = f"{ratio.median:.2f} ({ratio.lowest:.2f} to {ratio.highest:.2f})"
            self.add(measured, way, *cells, "" if way == ours else beside)
            figures["ways"][way] = scaled.rounded()
            if way != ours:
                figures["ratios"][way] = ratio.rounded()
        self.figures[measured] = figures

    def require(self, target: str, held: bool) -> None:
        """Record whether a target was reached."""
        targets: dict[str, bool] = self.figures.setdefault("targets", {})
        targets[target] = held
        if not held:
            self.missed.append(target)


def print_report(report: Report) -> None:
    """Print the table and one line for each target."""
    console = Console(width=140)
    table = Table(*report.columns)
    for row in report.rows:
        table.add_row(*row)
    console.print(table)
    targets: Mapping[str, bool] = report.figures.get("targets", {})
    for target, held in targets.items():
        console.print(f"{'held  ' if held else 'MISSED'} {target}", highlight=False)
