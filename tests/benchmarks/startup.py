"""`django.setup()` and `manage.py check`, beside a project that has only Django and DRF."""

import argparse
import os
import re
import resource
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks._report import Report
from tests.benchmarks._turns import Measure, take_turns

BARE = "bare project with DRF"
PROJECT = Path(__file__).resolve().parents[2]
STARTS = {
    "django.setup()": ["-c", "import django; django.setup()"],
    "manage.py check": ["manage.py", "check"],
}
SETTINGS = """
INSTALLED_APPS.append("rest_framework")
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "unused"}}
"""
LIMIT = 1.5

IMPORT = re.compile(r"import time: +(?P<own>\d+) \| +\d+ \| +(?P<package>\w+)")
"""A line of `python -X importtime`: microseconds without nested imports, and the module."""

SLOWEST = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the number of rounds."""
    parser.add_argument("--rounds", type=int, default=15)


def run(arguments: argparse.Namespace) -> Report:
    """Start both projects in turns, each time as a new process; compare the CPU time of the processes."""
    report = Report()
    with TemporaryDirectory() as folder:
        bare = Path(folder)
        subprocess.run([sys.executable, "-m", "django", "startproject", "bare", bare], check=True)
        with (bare / "bare" / "settings.py").open("a") as settings:
            settings.write(SETTINGS)
        for start, command in STARTS.items():
            ways = {
                "ours": _cpu_seconds(command, PROJECT, "config.settings"),
                BARE: _cpu_seconds(command, bare, "bare.settings"),
                "floor: Python": _cpu_seconds(["-c", ""], bare, ""),
            }
            turns = take_turns(ways, rounds=3 if arguments.quick else arguments.rounds)
            report.compare(start, turns, unit="ms", scale=1e3)
            ratio = turns.ratio("ours", BARE).median
            report.require(f"{start}: at most {LIMIT} times a {BARE}", ratio <= LIMIT)
        _report_imports(report, bare)
    return report


def _report_imports(report: Report, bare: Path) -> None:
    """Name the packages that make `manage.py check` slower than in the bare project."""
    check = ["-X", "importtime", *STARTS["manage.py check"]]
    theirs = _import_times(_run(check, bare, "bare.settings"))
    ours = _import_times(_run(check, PROJECT, "config.settings"))
    slower = {package: ours[package] - theirs.get(package, 0) for package in ours}
    slowest = sorted(slower, key=slower.__getitem__, reverse=True)[:SLOWEST]
    report.figures["slowest_imports_ms"] = {package: round(slower[package] * 1000, 1) for package in slowest}
    for package, milliseconds in report.figures["slowest_imports_ms"].items():
        report.add("imports of check, more than bare", package, f"{milliseconds} ms")


def _import_times(process: subprocess.CompletedProcess[str]) -> dict[str, float]:
    """Return the seconds that the modules of each package took."""
    times: defaultdict[str, float] = defaultdict(float)
    for line in IMPORT.finditer(process.stderr):
        times[line["package"]] += int(line["own"]) / 1e6
    return times


def _cpu_seconds(command: list[str], folder: Path, settings: str) -> Measure:
    """Measure the CPU time of a Python process, which other load changes less than the time on the clock."""

    def measure() -> float:
        before = _children_seconds()
        _run(command, folder, settings)
        return _children_seconds() - before

    return measure


def _run(command: list[str], folder: Path, settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"DEBUG": "true", "ENV_FILE": os.devnull, "PATH": os.environ["PATH"]}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**environment, "DJANGO_SETTINGS_MODULE": settings},
        capture_output=True,
        check=True,
        text=True,
    )


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
