"""CSV for spreadsheets: lines without a file, and cells that no spreadsheet takes for a formula."""

import csv
import re
from collections.abc import Iterable
from typing import Any

# The wide forms, too. In many countries a spreadsheet splits a line at semicolons and then at each end of
# line, whatever the quotation marks.
_FORMULA = re.compile(r"(?:^(?=[\t\r\n])|(?:^|(?<=[;\t\r\n]))(?=[=+\-@＝＋－＠]))")  # noqa: RUF001


class _Echo:
    """A file for a CSV writer, which returns each line instead of storing it."""

    def write(self, line: str) -> str:
        return line


_writer: Any = csv.writer(_Echo())


def csv_line(cells: Iterable[object]) -> str:
    """Return the cells as a line of CSV."""
    line: str = _writer.writerow(map(harmless, cells))
    return line


def harmless(value: object) -> object:
    """Return the value of a cell with an apostrophe before what a spreadsheet would run as a formula."""
    return _FORMULA.sub("'", value) if isinstance(value, str) else value
