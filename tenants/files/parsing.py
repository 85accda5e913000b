"""Read CSV and JSONL files line by line; name the line of every problem."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tenants.exceptions import InvalidFile

MAX_SHOWN = 20
"""Maximum number of problems that a message lists; further problems are only counted."""

Row = tuple[int, Mapping[str, Any]]
"""The number of a line, counted from 1 as in editors, and its values."""


class Problems:
    """The first problems of a file, in the order of its lines, and the number of all problems."""

    def __init__(self) -> None:
        self._shown: list[tuple[int, str]] = []
        self.count = 0

    def add(self, line: int, problem: str) -> None:
        """Add a problem of a line."""
        self.count += 1
        self._shown.append((line, problem))
        if len(self._shown) > MAX_SHOWN:
            self._shown.sort()
            self._shown.pop()

    def raise_any(self) -> None:
        """Raise InvalidFile if there is a problem. Call this method before the rows are used."""
        if not self.count:
            return
        lines = [f"line {line}: {problem}" for line, problem in sorted(self._shown)]
        if self.count > len(lines):
            left = self.count - len(lines)
            lines.append(f"and {left:,} more {'problem' if left == 1 else 'problems'}")
        raise InvalidFile("\n".join([*lines, "Nothing was changed."]))


@contextmanager
def opened(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 file, with or without a byte order mark. Raise InvalidFile if it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read: {error.strerror}. Nothing was changed.") from error
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path} is not UTF-8: {error.reason}. Nothing was changed.") from error


def csv_rows(file: IO[str], *, required: set[str], optional: set[str], problems: Problems) -> Iterator[Row]:
    """Yield each line of a CSV file as a mapping from column to value.

    Add a problem for a line with too few or too many values. Raise InvalidFile if the header lacks a
    required column, repeats a column, or has an unknown column.
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
                problems.add(line, f"expected {len(header)} values, found {len(values)}")
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidFile(f"line {reader.line_num}: {error}. Nothing was changed.") from error


def json_rows(file: IO[str], problems: Problems) -> Iterator[Row]:
    """Yield the object on each line of a JSONL file. Add a problem for a line without an object."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            problems.add(number, "not valid JSON")
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            problems.add(number, "not a JSON object")


def counting(rows: Iterator[Row], advance: Callable[[int], None], every: int = 1000) -> Iterator[Row]:
    """Yield the rows and report progress every `every` rows."""
    done = 0
    for done, row in enumerate(rows, start=1):
        yield row
        if done % every == 0:
            advance(every)
    advance(done % every)


def _check_header(header: list[str], required: set[str], optional: set[str]) -> None:
    missing = sorted(required - set(header))
    unknown = sorted(set(header) - required - optional)
    repeated = sorted({name for name in header if header.count(name) > 1})
    wrong = [
        f"{what}: {', '.join(map(repr, names))}"
        for what, names in (("missing", missing), ("unknown", unknown), ("repeated", repeated))
        if names
    ]
    if wrong:
        expected = ", ".join(sorted(required)) + "".join(f", [{name}]" for name in sorted(optional))
        raise InvalidFile(
            f"line 1: expected the columns {expected}; {'; '.join(wrong)}. Nothing was changed."
        )
