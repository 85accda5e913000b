"""Files that operators hand in: read line by line, with every problem named by its line."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tenants.exceptions import InvalidFile

SHOWN = 20
"""Problems that are spelled out; the rest are counted."""

Row = tuple[int, Mapping[str, Any]]
"""A line's number, counted from 1 as editors do, and what it holds."""


class Problems:
    """Collects what is wrong with a file, in bounded memory."""

    def __init__(self) -> None:
        self._shown: list[tuple[int, str]] = []
        self.count = 0

    def add(self, line: int, problem: str) -> None:
        """Note a problem of a line."""
        self.count += 1
        self._shown.append((line, problem))
        if len(self._shown) > SHOWN:
            self._shown.sort()
            self._shown.pop()

    def raise_any(self) -> None:
        """Raise InvalidFile when there was one; nothing of the file may have been used by then."""
        if not self.count:
            return
        lines = [f"line {line}: {problem}" for line, problem in sorted(self._shown)]
        if self.count > len(lines):
            lines.append(f"and {self.count - len(lines):,} more problems")
        raise InvalidFile("\n".join([*lines, "Nothing was changed."]))


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 file, with or without a byte order mark; raise InvalidFile when it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read: {error.strerror}. Nothing was changed.") from error
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path} is not UTF-8: {error.reason}. Nothing was changed.") from error


def csv_rows(file: IO[str], *, required: set[str], optional: set[str], problems: Problems) -> Iterator[Row]:
    """Yield the lines of a CSV file by the names of its header; note those with too few or many values.

    Raise InvalidFile when the header lacks a required column, names a column twice, or has one that
    nobody knows.
    """
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, [])
        _check_header(header, required, optional)
        line = reader.line_num + 1
        for values in reader:
            if len(values) == len(header):
                yield line, dict(zip(header, values, strict=True))
            elif values:
                problems.add(line, f"{len(values)} values for {len(header)} columns")
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidFile(f"line {reader.line_num}: {error}. Nothing was changed.") from error


def json_rows(file: IO[str], problems: Problems) -> Iterator[Row]:
    """Yield the objects of a JSONL file, one per line; note the lines that hold none."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            problems.add(number, "no JSON")
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            problems.add(number, "no JSON object")


def counting(rows: Iterator[Row], advance: Callable[[int], None], every: int = 1000) -> Iterator[Row]:
    """Pass rows on and tell now and then how many there were."""
    done = 0
    for done, row in enumerate(rows, start=1):
        yield row
        if done % every == 0:
            advance(every)
    advance(done % every)


def _check_header(header: list[str], required: set[str], optional: set[str]) -> None:
    missing = sorted(required - set(header))
    unknown = sorted(set(header) - required - optional)
    twice = sorted({name for name in header if header.count(name) > 1})
    wrong = [
        f"{what}: {', '.join(map(repr, names))}"
        for what, names in (("missing", missing), ("unknown", unknown), ("twice", twice))
        if names
    ]
    if wrong:
        expected = ", ".join(sorted(required)) + "".join(f", [{name}]" for name in sorted(optional))
        raise InvalidFile(
            f"line 1: the columns are not as expected ({expected}); {'; '.join(wrong)}. Nothing was changed."
        )
