"""Progress of a long command: a bar on a terminal, plain lines in a pipe or a log."""

import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

from django.core.management.base import OutputWrapper
from django.db import reset_queries
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 5.0
"""The time between two plain lines."""

INTERRUPTED = 130
"""The exit code that a shell reports if Ctrl-C ends a program."""


class CommandProgress:
    """Reports what a command is doing, how fast, and how long it will take.

    Call `start` for each part of the work, `advance` and `note` any number of times, and `finish` at the
    end, also after an error. On a terminal there is one bar per part; otherwise a line every five seconds
    and one at the end of each part. With `as_json`, the last line of output is the summary as JSON.
    """

    def __init__(self, stdout: OutputWrapper, *, as_json: bool = False) -> None:
        self._stdout = stdout
        self._as_json = as_json
        self._bar = _new_bar() if stdout.isatty() else None
        self._part: _Part | None = None
        self.is_finished = False

    def start(self, total: int | None, label: str, *, done: int = 0) -> None:
        """Begin a part of the work with `total` items called `label`. `total` is None if it is not known yet.

        `done` items are finished already and do not count for the speed.
        """
        self._end_part()
        self._part = _Part(total, label, done)
        if self._bar is not None:
            self._bar.start()
            self._part.task = self._bar.add_task(label, total=total, completed=done, rate="")

    def expect(self, total: int) -> None:
        """Correct the number of items of the current part."""
        if self._part is None:
            return
        self._part.total = total
        if self._bar is not None:
            self._bar.update(self._part.task, total=total)

    def advance(self, n: int = 1) -> None:
        """Count `n` items as done."""
        # With DEBUG=True, Django keeps every SQL statement of the process in memory.
        reset_queries()
        if self._part is None:
            return
        self._part.done += n
        if self._bar is not None:
            self._bar.update(self._part.task, advance=n, rate=f"{self._part.rate:,.0f}/s")
        elif self._part.is_line_due():
            self.note(self._part.line())

    def note(self, line: str) -> None:
        """Print a separate line. Escape control characters, which could split or fake a line."""
        line = "".join(map(_printable, line))
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._stdout.write(line)
            self._stdout.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """End the current part and print the summary: one line per entry, or one JSON object."""
        self.is_finished = True
        self._end_part()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._as_json:
            self._stdout.write(json.dumps(summary, default=str))
            return
        for name, value in summary.items():
            if value is not None:
                self._stdout.write(f"{name.replace('_', ' ')}: {_readable(value)}")

    def _end_part(self) -> None:
        if self._part is not None and self._bar is None:
            self.note(self._part.line())
        self._part = None


class _Part:
    """One part of the work and its speed."""

    def __init__(self, total: int | None, label: str, done: int) -> None:
        self.total = total
        self.label = label
        self.done = self._done_before = done
        self.task = TaskID(0)
        self._started = self._reported = monotonic()

    @property
    def rate(self) -> float:
        """Items per second since the part began."""
        return (self.done - self._done_before) / max(monotonic() - self._started, 0.001)

    def is_line_due(self) -> bool:
        """Return whether it is time for the next line."""
        if monotonic() - self._reported < PLAIN_SECONDS:
            return False
        self._reported = monotonic()
        return True

    def line(self) -> str:
        """Return a line such as `organizations: 5,000 of 20,000, 1,250/s, 12 s left`."""
        parts = [f"{self.label}: {self.done:,}" + ("" if self.total is None else f" of {self.total:,}")]
        if self.done > self._done_before:
            parts.append(f"{self.rate:,.0f}/s" if self.rate >= 1 else f"{self.rate:.2f}/s")
            if self.total is not None and self.done < self.total:
                parts.append(f"{(self.total - self.done) / self.rate:,.0f} s left")
        return ", ".join(parts)


def _new_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
