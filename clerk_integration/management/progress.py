"""How far a long command has come: a bar on a terminal, plain lines in a pipe or a log."""

import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

from django.core.management.base import OutputWrapper
from django.db import reset_queries
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 5.0
"""The time between two plain lines."""

INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C has ended."""


class CommandProgress:
    """Says what is being done, how fast, and how long it will take still.

    `start`, any number of `advance` and `note`, perhaps another `start`; `finish` at the end, also
    after an error. On a terminal there is one bar with rate and remaining time; otherwise a line every
    five seconds and one at the end of each part. With `as_json`, the last line of output is the
    summary as one JSON object.
    """

    def __init__(self, stdout: OutputWrapper, *, as_json: bool = False) -> None:
        self._stdout = stdout
        self._as_json = as_json
        self._bar = _Bar() if stdout.isatty() else None
        self._part: _Part | None = None

    def start(self, total: int | None, label: str) -> None:
        """Begin a part of the work: `total` items of what `label` names; None when nobody knows yet."""
        self._close_part()
        self._part = _Part(total, label)
        if self._bar is not None:
            self._bar.start(total, label)

    def expect(self, total: int) -> None:
        """Correct the number of items of the running part."""
        if self._part is not None:
            self._part.total = total
        if self._bar is not None:
            self._bar.expect(total)

    def advance(self, n: int = 1) -> None:
        """Count `n` items as done."""
        # With DEBUG on, Django keeps every statement of the process, parameters included.
        reset_queries()
        if self._part is None:
            return
        self._part.done += n
        if self._bar is not None:
            self._bar.advance(n, self._part.rate)
        elif self._part.is_due():
            self._stdout.write(self._part.line())
            self._stdout.flush()

    def note(self, line: str) -> None:
        """Print a line of its own."""
        if self._bar is not None:
            self._bar.print(line)
        else:
            self._stdout.write(line)
            self._stdout.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the running part and print the summary: one line per entry, or one JSON object."""
        self._close_part()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._as_json:
            self._stdout.write(json.dumps(summary, default=str))
            return
        for name, value in summary.items():
            if value is not None:
                self._stdout.write(f"{name.replace('_', ' ')}: {_readable(value)}")

    def _close_part(self) -> None:
        if self._part is not None and self._bar is None:
            self._stdout.write(self._part.line())
        self._part = None


class _Part:
    """One part of the work and its speed."""

    def __init__(self, total: int | None, label: str) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self._started = self._told = monotonic()

    @property
    def rate(self) -> float:
        """Items a second since the part began."""
        return self.done / max(monotonic() - self._started, 0.001)

    def is_due(self) -> bool:
        """Whether it is time for the next line."""
        if monotonic() - self._told < PLAIN_SECONDS:
            return False
        self._told = monotonic()
        return True

    def line(self) -> str:
        """Such as `organizations: 5,000 of 20,000, 1,250/s, 12 s left`."""
        parts = [f"{self.label}: {self.done:,}" + ("" if self.total is None else f" of {self.total:,}")]
        if self.done:
            parts.append(f"{self.rate:,.0f}/s" if self.rate >= 1 else f"{self.rate:.2f}/s")
            if self.total is not None and self.done < self.total:
                parts.append(f"{(self.total - self.done) / self.rate:,.0f} s left")
        return ", ".join(parts)


class _Bar:
    """The bar on a terminal, which starts with the first part."""

    def __init__(self) -> None:
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task: TaskID | None = None

    def start(self, total: int | None, label: str) -> None:
        self._progress.start()
        self._task = self._progress.add_task(label, total=total, rate="")

    def expect(self, total: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, total=total)

    def advance(self, n: int, rate: float) -> None:
        if self._task is not None:
            self._progress.update(self._task, advance=n, rate=f"{rate:,.0f}/s")

    def print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def stop(self) -> None:
        self._progress.stop()


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
