"""A full sync of 20,000 organizations with 60,000 memberships: calls, statements, rows, memory, time."""

import argparse
import json
import subprocess
import sys
from typing import Any

from django.db import connection

from tests.benchmarks._clerk import child_environment, local_clerk
from tests.benchmarks._report import Report
from tests.children import PROJECT
from tests.sandbox import SandboxControl

MEMBERS = 3
PAGE = 500
MIRRORED = ("tenants", "memberships")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size."""
    parser.add_argument("--organizations", type=int, default=20_000)


def run(arguments: argparse.Namespace) -> Report:
    """Sync an empty mirror, sync it again, and sync one of twice the size."""
    report = Report(("run", "calls", "pages", "statements/page", "rows written", "seconds", "peak MB"))
    first, second = _twice(report, arguments.organizations)
    _empty()
    [double] = [_twice(report, 2 * arguments.organizations, runs=1)[0]]
    pages = arguments.organizations // PAGE, arguments.organizations * MEMBERS // PAGE
    report.require(f"{pages[0]} + {pages[1]} listing calls", first["calls"] == list(pages))
    more = double["statements"] - first["statements"], double["pages"] - first["pages"]
    report.require("at most 3 statements a page", more[0] <= 3 * more[1])
    report.require("a second run writes no row", second["rows_written"] == 0)
    again = second["seconds"] / first["seconds"]
    report.require("a second run takes no longer", again < 1.2)
    report.require("under 200 MB", max(first["peak_mb"], double["peak_mb"]) < 200)
    growth = double["peak_mb"] / first["peak_mb"] - 1
    report.require("under 10 % more memory for twice as much", growth < 0.1)
    report.figures |= {
        "first": first,
        "second": second,
        "double": double,
        "memory_growth": growth,
        "again": again,
    }
    return report


def _twice(report: Report, organizations: int, *, runs: int = 2) -> list[dict[str, Any]]:
    results = []
    with local_clerk(organizations=organizations, members=MEMBERS) as clerk:
        for number in range(1, runs + 1):
            result = _sync(clerk)
            results.append(result)
            report.add(
                f"{organizations:,} organizations, run {number}",
                " + ".join(map(str, result["calls"])),
                result["pages"],
                f"{result['statements_a_page']:.2f}",
                f"{result['rows_written']:,}",
                f"{result['seconds']:.1f}",
                f"{result['peak_mb']:.0f}",
            )
    return results


def _sync(clerk: SandboxControl) -> dict[str, Any]:
    clerk.clear_requests()
    before = _rows_written()
    child = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks._sync_child"],
        cwd=PROJECT,
        env=child_environment(clerk),
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(child.stdout)
    result["rows_written"] = _rows_written() - before
    result["calls"] = [
        len(clerk.requests("GET", path)) for path in ("/v1/organizations", "/v1/organization_memberships")
    ]
    return result


def _rows_written() -> int:
    """Rows of the mirror that were ever inserted, updated or deleted, by PostgreSQL's own count."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE relname = ANY (%s)",
            [list(MIRRORED)],
        )
        return int(cursor.fetchone()[0])


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE tenants, memberships, sync_runs, sync_run_pages CASCADE")
