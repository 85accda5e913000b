"""How far a long command is: a bar at a terminal, a plain line now and then elsewhere."""

from types import TracebackType

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 500
"""Items between two lines where there is no terminal."""


class ProgressReport:
    """Counts items of a known total; use it as a context manager around the work."""

    def __init__(self, stdout: OutputWrapper, *, what: str, total: int) -> None:
        self._stdout = stdout
        self._what = what
        self._total = total
        self._done = 0
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(), disable=not stdout.isatty())
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> "ProgressReport":
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line, above the bar."""
        if self._bar.disable:
            self._stdout.write(text)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self) -> None:
        """Count one item."""
        self._done += 1
        self._bar.advance(self._task)
        if self._bar.disable and self._done % LINE_EVERY == 0:
            self._stdout.write(f"{self._done} of {self._total} {self._what}")
