"""`python -m tests.benchmarks NAME|all [--quick] [options]`: our figures beside a baseline and a floor.

Each module beside this one, private ones apart, is a benchmark: `add_arguments(parser)` declares its
options, and `run(arguments)` returns a `Report`. The rows of the report are printed as a table, the figures
as one line of JSON. Ways that are compared take turns in one run (`_turns`).

With `--quick`, `arguments.quick` is true: the benchmark measures a few rounds of small sizes, which show that
it works, not how fast the project is, and a missed target is no failure. With `--record FILE`, the rows are
written to FILE, too, from which `python -m docs.generate` makes a page of the documentation. A module with
`WRITES = True` runs on two kinds of server: one with `fsync` and `synchronous_commit` off, and one with both
on (`--durable off` or `on` selects one of them).

Benchmarks use the embedded PostgreSQL, in a database of their own that is dropped at the end, and the local
Clerk in a process of its own.
"""

import argparse
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import django

import tests.environment  # noqa: F401  (before Django reads its settings)
from tests.benchmarks._database import own_database
from tests.benchmarks._record import record
from tests.benchmarks._report import Report, print_report

ALL = "all"

NAMES = sorted(
    module.name
    for module in pkgutil.iter_modules([str(Path(__file__).parent)])
    if not module.name.startswith("_")
)


def main(arguments: Sequence[str]) -> int:
    """Run one benchmark, or each in a process of its own; the exit code is 1 if one missed a target."""
    if list(arguments[:1]) == [ALL]:
        return _run_all(arguments[1:])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    options = _parser().parse_args(arguments)
    module = importlib.import_module(f"tests.benchmarks.{options.name}")
    missed = False
    for durable in _kinds_of_server(options) if getattr(module, "WRITES", False) else (False,):
        started = time.monotonic()
        with own_database(durable=durable):
            report: Report = module.run(options)
        print_report(report)
        if options.record:
            record(options.record, options.name, report, durable=durable)
        run = {"benchmark": options.name, "quick": options.quick, "durable": durable}
        run |= {"run_seconds": round(time.monotonic() - started, 1)}
        sys.stdout.write(json.dumps(run | report.figures) + "\n")
        sys.stdout.flush()
        missed |= bool(report.missed) and not options.quick
    return int(missed)


def _run_all(arguments: Sequence[str]) -> int:
    runs = [
        subprocess.run([sys.executable, "-m", "tests.benchmarks", name, *arguments], check=False)
        for name in NAMES
    ]
    return max(run.returncode for run in runs)


def _kinds_of_server(options: argparse.Namespace) -> tuple[bool, ...]:
    return (False, True) if options.durable is None else (options.durable == "on",)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quick", action="store_true", help="few rounds of small sizes")
    common.add_argument("--durable", choices=("on", "off"), help="only this kind of server (default: both)")
    common.add_argument("--record", type=Path, metavar="FILE", help="write the rows to this JSON file, too")
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    commands.add_parser(ALL, help="every benchmark with its default options, each in a process of its own")
    for name in NAMES:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        help_text = (module.__doc__ or "").partition("\n")[0]
        module.add_arguments(commands.add_parser(name, parents=[common], help=help_text))
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
