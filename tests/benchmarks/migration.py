"""2,000 legacy tenants with 3 members each move into a Clerk that enforces a live instance's limit."""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

from tenants.models import Membership, Tenant
from tests.benchmarks._clerk import child_environment, local_clerk
from tests.benchmarks._report import Report
from tests.children import PROJECT
from tests.sandbox import SandboxControl

MEMBERS = 3
LIMIT = 1000
"""Requests in ten seconds, as `--rate-limit live` enforces them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size."""
    parser.add_argument("--tenants", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)


def run(arguments: argparse.Namespace) -> Report:
    """Migrate once, and again to see that nothing is left."""
    if arguments.quick:
        arguments.tenants = 100
    report = Report(("run", "requests", "429", "seconds", "requests/s", "of the limit", "created"))
    with local_clerk(users=arguments.tenants * MEMBERS, rate_limit="live") as clerk:
        make_tenants(clerk, arguments.tenants)
        first = _migrate(clerk, arguments.concurrency)
        again = _migrate(clerk, arguments.concurrency)
        organizations = clerk.api("GET", "/organizations", limit=1)["total_count"]
        memberships = clerk.api("GET", "/organization_memberships", limit=1)["total_count"]
    for name, result in (("first", first), ("again", again)):
        share = f"{result['share']:.1%}"
        cells = (result["requests"], result["refused"], f"{result['seconds']:.1f}", f"{result['rate']:.1f}")
        report.add(name, *cells, share, result["created"])
    mirrored = Membership.objects.filter(clerk_membership_id__isnull=False).count()
    linked = Tenant.objects.filter(clerk_org_id__isnull=False).count()
    report.require(f"{arguments.tenants:,} organizations", organizations == arguments.tenants)
    report.require(f"{arguments.tenants * MEMBERS:,} memberships", memberships == arguments.tenants * MEMBERS)
    report.require("all mirrored", (linked, mirrored) == (organizations, memberships))
    report.require("at least 90 % of the permitted rate", first["share"] >= 0.9)
    report.require("no request lost to 429", first["refused"] == 0)
    report.require("nothing left for a second run", again["created"] == 0)
    report.figures |= {"first": first, "again": again}
    return report


def make_tenants(clerk: SandboxControl, tenants: int) -> None:
    """Make legacy tenants whose members are all known to Clerk."""
    users = [user["id"] for offset in range(0, tenants * MEMBERS, 500) for user in _users(clerk, offset)]
    rows = Tenant.objects.bulk_create(
        Tenant(name=f"Tenant {number}", slug=f"tenant-{number}") for number in range(tenants)
    )
    Membership.objects.bulk_create(
        Membership(tenant=tenant, clerk_user_id=users[number * MEMBERS + place], role=role)
        for number, tenant in enumerate(rows)
        for place, role in enumerate(("owner", "admin", "member"))
    )


def _users(clerk: SandboxControl, offset: int) -> list[dict[str, Any]]:
    page: list[dict[str, Any]] = clerk.api("GET", "/users", limit=500, offset=offset, order_by="+created_at")
    return page


def _migrate(clerk: SandboxControl, concurrency: int) -> dict[str, Any]:
    clerk.clear_requests()
    command = (sys.executable, "manage.py", "migrate_tenants_to_clerk", "--json", "--skip-checks")
    started = time.perf_counter()
    child = subprocess.run(
        [*command, "--concurrency", str(concurrency)],
        cwd=PROJECT,
        env=child_environment(clerk) | {"CLERK_RATE_LIMIT": str(LIMIT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    calls = clerk.requests()
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "requests": len(calls),
        "refused": sum(call["status"] == 429 for call in calls),
        "rate": len(calls) / seconds,
        "share": len(calls) / seconds / (LIMIT / 10),
        "created": json.loads(child.stdout.splitlines()[-1])["created"],
    }
