"""`python -m tests.benchmarks NAME [options]`: figures beside their baseline and their floor.

Each module beside this one, private ones apart, is a benchmark: `add_arguments(parser)` declares its
options and `run(arguments)` returns its rows and one mapping of figures. The rows are printed as a
table, the figures as one line of JSON.

Benchmarks use the embedded PostgreSQL, in a database of their own that is dropped at the end, and the
local Clerk in a process of its own.
"""

import argparse
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import django

import tests.environment  # noqa: F401  (before Django reads its settings)
from tests.benchmarks._database import own_database
from tests.benchmarks._report import Report, print_report

NAMES = sorted(
    module.name
    for module in pkgutil.iter_modules([str(Path(__file__).parent)])
    if not module.name.startswith("_")
)


def main(arguments: Sequence[str]) -> int:
    """Run one benchmark; the exit code is 1 when it missed a target."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name in NAMES:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        module.add_arguments(commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0]))
    options = parser.parse_args(arguments)
    with own_database():
        report: Report = importlib.import_module(f"tests.benchmarks.{options.name}").run(options)
    print_report(report)
    sys.stdout.write(json.dumps({"benchmark": options.name, **report.figures}) + "\n")
    return 1 if report.missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
