"""`django.setup()` and `manage.py check`, beside a project that has only Django and DRF."""

import argparse
import os
import resource
import subprocess
import sys
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
    return report


def _cpu_seconds(command: list[str], folder: Path, settings: str) -> Measure:
    """Measure the CPU time of a Python process, which other load changes less than the time on the clock."""
    environment = {"DEBUG": "true", "ENV_FILE": os.devnull, "PATH": os.environ["PATH"]}

    def measure() -> float:
        before = _children_seconds()
        subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env={**environment, "DJANGO_SETTINGS_MODULE": settings},
            capture_output=True,
            check=True,
        )
        return _children_seconds() - before

    return measure


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
