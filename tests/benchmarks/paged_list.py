"""The list of all tenants in pages beside a bare DRF ModelSerializer view with the same filters."""

import argparse

from tests.benchmarks._bare_lists import BARE_PAGED_LIST
from tests.benchmarks._report import Report
from tests.benchmarks.list import measure, populate

SIZE = 100_000
QUERIES = {
    "first page": "",
    "page 1,000": "page=1000",
    "search": "search=abc",
    "search, status, linked": "search=a&status=active&linked=true",
    "status": "status=suspended",
    "ordered by name": "ordering=name",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size."""
    parser.add_argument("--rounds", type=int, default=40, help="requests for each of the ways and queries")


def run(arguments: argparse.Namespace) -> Report:
    """Measure each query in a child process, with the settings of production and the session of staff.

    The bare view counts exactly and searches by `icontains`; ours estimates large counts and searches by the
    beginnings of words.
    """
    report = Report()
    populate(SIZE, listed=50)
    for name, query in QUERIES.items():
        turns = measure(
            {"paged list": f"/api/v1/tenants?{query}", "bare view": f"{BARE_PAGED_LIST}?{query}"},
            rounds=5 if arguments.quick else arguments.rounds,
            as_staff=True,
        )
        report.compare(name, turns, unit="ms", scale=1000)
        ratio = turns.ratio("paged list", "bare view").median
        report.require(f"{name}: at least as fast as the bare view", ratio <= 1)
    return report
