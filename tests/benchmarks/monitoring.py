"""What request ids and metrics add to a webhook and to a list, and what a scrape of `/metrics` takes."""

import argparse
import json
import subprocess
import sys
import time

from tenants.monitoring.deployment_metrics import DeploymentMetrics
from tests.benchmarks._clerk import child_environment, local_clerk
from tests.benchmarks._report import Report
from tests.benchmarks._turns import Turns
from tests.benchmarks.list import LISTED, populate
from tests.benchmarks.webhook_ingest import _events
from tests.children import PROJECT

LIMIT = 1.1
SIZE = 1_000
SCRAPES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the number of rounds."""
    parser.add_argument("--rounds", type=int, default=100, help="rounds of 20 requests in each way")


def run(arguments: argparse.Namespace) -> Report:
    """Measure in a child process with the settings of production."""
    report = Report()
    populate(SIZE, LISTED)
    with local_clerk() as clerk:
        child = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks._monitoring_child"],
            cwd=PROJECT,
            env={
                **child_environment(clerk),
                "CLERK_WEBHOOK_SIGNING_SECRET": clerk.description["webhookSigningSecret"],
                "PYTHONWARNINGS": "ignore:No directory at",  # no static files were collected
            },
            input=json.dumps(
                {"bodies": _events(clerk), "rounds": 5 if arguments.quick else arguments.rounds}
            ).encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
    for name, samples in json.loads(child.stdout).items():
        turns = Turns(samples)
        report.compare(name, turns, unit="ms", scale=1000)
        report.require(
            f"a {name} takes at most {LIMIT} times as long", turns.ratio("monitored", "bare").median <= LIMIT
        )
    _scrape(report)
    return report


def _scrape(report: Report) -> None:
    """Measure how long the numbers of the deployment take, a new database connection included."""
    numbers = DeploymentMetrics()
    seconds = []
    for _ in range(SCRAPES):
        started = time.perf_counter()
        list(numbers.collect())
        seconds.append(time.perf_counter() - started)
    report.compare("numbers of the deployment", Turns({"scrape": seconds}), unit="ms", scale=1000)
