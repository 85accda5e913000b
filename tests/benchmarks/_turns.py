"""Measure several ways to do the same thing in turns, so that other load on the machine meets all of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Measure = Callable[[], float]
"""Do the work of one round; return its seconds, or its rate."""


@dataclass(frozen=True, slots=True)
class Range:
    """The median of some measurements, with the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Range":
        """Return the range of the values, of which there is at least one."""
        return cls(median(values), min(values), max(values))

    def rounded(self) -> list[float]:
        """Return median, lowest and highest with four significant digits, for a line of JSON."""
        return [float(f"{value:.4g}") for value in (self.median, self.lowest, self.highest)]


class Turns:
    """The measurements of several ways: one for each way and round."""

    def __init__(self, samples: Mapping[str, Sequence[float]]) -> None:
        self.samples = samples

    def of(self, way: str) -> Range:
        """Return the range of one way's measurements."""
        return Range.of(self.samples[way])

    def ratio(self, way: str, other: str) -> Range:
        """Return the range of `way / other`, one ratio for each round."""
        pairs = zip(self.samples[way], self.samples[other], strict=True)
        return Range.of([one / two for one, two in pairs])


def take_turns(ways: Mapping[str, Measure], *, rounds: int, warm_up: int = 1) -> Turns:
    """Measure each way once a round. The way that begins changes each round; warm-up rounds do not count."""
    samples: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(-warm_up, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            measured = ways[name]()
            if number >= 0:
                samples[name].append(measured)
    return Turns(samples)


def seconds_of(action: Callable[[], object], *, times: int = 1) -> Measure:
    """Return a measure of the seconds that one call of the action takes, on average over `times` calls."""

    def measure() -> float:
        started = time.perf_counter()
        for _ in range(times):
            action()
        return (time.perf_counter() - started) / times

    return measure
