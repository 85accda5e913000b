"""Send a table of any size as a CSV file, whose cells no spreadsheet takes for a formula."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from django.http import StreamingHttpResponse

from clerk_integration.times import in_utc

BYTE_ORDER_MARK = "\ufeff"
"""Tells a spreadsheet that the file is UTF-8."""

ROWS_AT_ONCE = 500

# The wide forms, too. In many countries a spreadsheet splits a line at semicolons and then at each end of
# line, whatever the quotation marks.
_FORMULA = re.compile(r"(?:^(?=[\t\r\n])|(?:^|(?<=[;\t\r\n]))(?=[=+\-@＝＋－＠]))")  # noqa: RUF001


class _Echo:
    """A file for a CSV writer, which returns each line instead of storing it."""

    def write(self, line: str) -> str:
        return line


_writer: Any = csv.writer(_Echo())


def csv_response(
    file_name: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> StreamingHttpResponse:
    """Return the table as a file to download. The rows are read while they are sent."""
    return StreamingHttpResponse(
        _chunks(header, rows),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{file_name}"'},
    )


def _chunks(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield BYTE_ORDER_MARK + _line(header)
    left = iter(rows)
    while chunk := list(islice(left, ROWS_AT_ONCE)):
        yield "".join(map(_line, chunk))


def _line(cells: Iterable[object]) -> str:
    line: str = _writer.writerow(map(_harmless, cells))
    return line


def _harmless(value: object) -> object:
    """Return the value of a cell with an apostrophe before what a spreadsheet would run as a formula.

    A time is in UTC, with its offset.
    """
    if isinstance(value, datetime):
        return in_utc(value)
    return _FORMULA.sub("'", value) if isinstance(value, str) else value
