"""A full sync beside a loop in the usual style, and beside fetch, COPY and merge."""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from django.db import connection
from django.test.utils import override_settings

from clerk_integration.organizations import get_clerk_org, iter_clerk_memberships, iter_clerk_orgs
from tenants.models import Membership, Tenant
from tests.benchmarks._clerk import child_environment, local_clerk
from tests.benchmarks._report import Report
from tests.benchmarks._turns import Measure, take_turns
from tests.children import PROJECT
from tests.sandbox import SandboxControl

WRITES = True

MEMBERS = 3
PAGE = 500
MIRRORED = ("tenants", "memberships")
OURS = "run_full_sync"
FLOOR = "fetch, COPY, merge"
LOOP = "list, get each, update_or_create each"

FIRST_TARGET = 1.8
UNCHANGED_TARGET = 1.6
SMALLER, LARGER = 1 / 4, 4
"""Memory is compared between syncs of so many times the organizations."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sizes."""
    parser.add_argument("--organizations", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=int, default=100, help="organizations that the loop syncs in a round")


def run(arguments: argparse.Namespace) -> Report:
    """Sync an empty mirror, and sync it again, in turns with the other ways; then syncs of other sizes."""
    if arguments.quick:
        arguments.organizations, arguments.rounds, arguments.share = 1000, 1, 20
    report = Report()
    with local_clerk(organizations=arguments.organizations, members=MEMBERS) as clerk:
        _compare_first(report, clerk, arguments)
        _compare_unchanged(report, clerk, arguments)
    _compare_sizes(report, int(arguments.organizations * SMALLER), arguments.organizations * LARGER)
    return report


def _compare_first(report: Report, clerk: SandboxControl, arguments: argparse.Namespace) -> None:
    def ours() -> float:
        _empty()
        return _seconds(_sync(clerk))

    def floor() -> float:
        _empty()
        return _seconds(_child(clerk, "_copy_child"))

    def loop() -> float:
        _empty()
        scale: float = arguments.organizations / arguments.share
        return _time_loop(clerk, arguments.share) * scale

    turns = take_turns({OURS: ours, FLOOR: floor, LOOP: loop}, rounds=arguments.rounds, warm_up=0)
    report.compare("first sync", turns, unit="s")
    above = turns.ratio(OURS, FLOOR).median
    report.require(f"first sync at most {FIRST_TARGET} times {FLOOR}", above <= FIRST_TARGET)
    below = turns.ratio(LOOP, OURS).median
    report.require("first sync at least 10 times faster than the loop, scaled up from its share", below >= 10)


def _compare_unchanged(report: Report, clerk: SandboxControl, arguments: argparse.Namespace) -> None:
    _empty()
    _sync(clerk)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tenants, memberships")
    written = _rows_written()
    ways: dict[str, Measure] = {
        OURS: lambda: _seconds(_sync(clerk)),
        FLOOR: lambda: _seconds(_child(clerk, "_copy_child")),
    }
    turns = take_turns(ways, rounds=arguments.rounds, warm_up=0)
    report.compare("unchanged sync", turns, unit="s")
    above = turns.ratio(OURS, FLOOR).median
    report.require(f"unchanged sync at most {UNCHANGED_TARGET} times {FLOOR}", above <= UNCHANGED_TARGET)
    report.require("an unchanged sync writes no row", _rows_written() == written)


def _compare_sizes(report: Report, small: int, large: int) -> None:
    results = []
    for size in (small, large):
        with local_clerk(organizations=size, members=MEMBERS) as clerk:
            _empty()
            results.append(_sync(clerk))
        report.add(f"peak memory of {size:,} organizations", OURS, f"{results[-1]['peak_mb']:.0f} MiB")
    smaller, larger = results
    growth = larger["peak_mb"] / smaller["peak_mb"] - 1
    statements = (larger["statements"] - smaller["statements"]) / (larger["pages"] - smaller["pages"])
    report.figures |= {"smaller": smaller, "larger": larger, "statements_a_page": statements}
    report.require(f"one call for each {PAGE} records", larger["calls"] == _calls(large))
    report.require("at most 3 statements a page", statements <= 3)
    report.require(f"under 10 % more memory for {large // small} times as much", growth < 0.1)


def _seconds(result: dict[str, Any]) -> float:
    return float(result["seconds"])


def _calls(organizations: int) -> list[int]:
    return [-(-organizations // PAGE), -(-organizations * MEMBERS // PAGE)]


def _sync(clerk: SandboxControl) -> dict[str, Any]:
    clerk.clear_requests()
    result = _child(clerk, "_sync_child")
    paths = "/v1/organizations", "/v1/organization_memberships"
    result["calls"] = [
        sum("organization_id" not in call["query"] for call in clerk.requests("GET", path)) for path in paths
    ]
    return result


def _child(clerk: SandboxControl, module: str) -> dict[str, Any]:
    child = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{module}"],
        cwd=PROJECT,
        env=child_environment(clerk),
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(child.stdout)
    return result


def _time_loop(clerk: SandboxControl, share: int) -> float:
    """Return the seconds in which the loop syncs `share` organizations, without its start."""
    description = clerk.description
    clerk_settings: dict[str, Any] = {
        "CLERK_API_URL": description["apiUrl"],
        "CLERK_SECRET_KEY": description["secretKey"],
        "CLERK_TIMEOUT_SECONDS": 600,
        "DEBUG": False,
    }
    with override_settings(**clerk_settings):
        ids = [organization.id for organization, _ in zip(iter_clerk_orgs(), range(share), strict=False)]
        get_clerk_org(ids[0])
        started = time.perf_counter()
        for clerk_org_id in ids:
            _sync_one(clerk_org_id)
        return time.perf_counter() - started


def _sync_one(clerk_org_id: str) -> None:
    organization = get_clerk_org(clerk_org_id)
    tenant, _ = Tenant.objects.update_or_create(
        clerk_org_id=organization.id,
        defaults={
            "name": organization.name,
            "slug": organization.slug,
            "logo_url": organization.image_url,
            "clerk_metadata": organization.public_metadata,
            "clerk_created_at": organization.created_at,
            "clerk_updated_at": organization.updated_at,
        },
    )
    for membership in iter_clerk_memberships(clerk_org_id):
        Membership.objects.update_or_create(
            tenant=tenant,
            clerk_user_id=membership.user_id,
            defaults={
                "clerk_membership_id": membership.id,
                "role": membership.role,
                "is_active": True,
                "clerk_created_at": membership.created_at,
                "clerk_updated_at": membership.updated_at,
            },
        )


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
    """Empty the mirror, and forget the instance: each local Clerk is another one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE tenants, memberships, sync_runs, sync_run_pages, clerk_learned_instance CASCADE"
        )
