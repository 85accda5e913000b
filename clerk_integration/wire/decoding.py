"""Decode JSON with parts that Python cannot read: numbers of thousands of digits, deep nesting.

Each such part becomes infinity, and the rest is decoded. `entities.clean` replaces infinity by None, because
PostgreSQL cannot store infinity.
"""

import json
import re
from typing import Any

MAX_DIGITS = 4300
"""Digits of an integer that Python converts by default."""

MAX_DEPTH = 250
"""Levels of a document that is too deep for Python's decoder; deeper values are left out."""

_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def integer(digits: str) -> int | float:
    """Return the integer, or infinity if it has more than MAX_DIGITS digits."""
    return int(digits) if len(digits) <= MAX_DIGITS else float("inf")


_decoder = json.JSONDecoder(parse_int=integer, parse_constant=lambda _: None)


def decode(body: bytes) -> Any:
    """Return the JSON of `body`; raise ValueError if it is not JSON."""
    text = body.decode(json.detect_encoding(body))
    try:
        return _decoder.decode(text)
    except RecursionError:
        return _decoder.decode(_without_deep_values(text))


def _without_deep_values(text: str) -> str:
    """Replace each value nested deeper than MAX_DEPTH levels by a number that is read as infinity."""
    kept = []
    depth = start = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept.append(text[start : token.start()])
        elif token[0] in "]}":
            depth -= 1
            if depth == MAX_DEPTH:
                kept.append("1e999")
                start = token.end()
    if depth > MAX_DEPTH:
        raise ValueError("the document ends inside a value")
    return "".join(kept) + text[start:]
