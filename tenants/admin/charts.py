"""Draw a bar for each day, as numbers for an SVG in a template."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

WIDTH, HEIGHT = 280, 80
"""The size of the drawing in its own units; the page scales it."""

GAP = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One day: its number, and the rectangle that shows it."""

    day: date
    count: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A number for each day; the highest bar has the height of the drawing."""

    name: str
    title: str
    bars: list[Bar]
    total: int
    highest: int


def chart(name: str, title: str, counts: Mapping[date, int]) -> Chart:
    """Return the chart of the numbers. A day with a number above zero has a bar of at least one unit."""
    highest = max(counts.values(), default=0)
    step = WIDTH / max(len(counts), 1)
    bars = [
        Bar(day, count, round(place * step, 2), HEIGHT - height, round(step - GAP, 2), height)
        for place, (day, count) in enumerate(counts.items())
        for height in [_height(count, highest)]
    ]
    return Chart(name, title, bars, sum(counts.values()), highest)


def _height(count: int, highest: int) -> float:
    return max(1.0, round(HEIGHT * count / highest, 2)) if count else 0.0
