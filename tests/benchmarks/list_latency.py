"""Lists of 20 clients beside a link of 20,000 members, an import of 100,000 lines and 500 deletions."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from threading import Event
from typing import Any

from django.db import connections

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants.files.imports import import_tenants
from tenants.lifecycle import link
from tenants.mirror import deletions, writer
from tenants.models import Membership, Tenant
from tests.benchmarks._clerk import child_environment, local_clerk
from tests.benchmarks._report import Report
from tests.children import PROJECT
from tests.sandbox import SandboxControl

CLIENTS = 20
USERS_A_CLIENT = 3
PAUSE_SECONDS = 0.5
ORGANIZATIONS = 10
MEMBERSHIPS_A_USER = 3
QUIET_SECONDS = 15.0
BATCH = 500

BIG = ClerkOrganization(id="org_big", name="Big", created_at=1, updated_at=1)

Measured = tuple[float, float, int, str]
"""Start, seconds, status and X-Clerk-Sync of one list."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sizes."""
    parser.add_argument("--members", type=int, default=20_000)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--deletions", type=int, default=500)


def run(arguments: argparse.Namespace) -> Report:
    """List for a while, then beside the other work, in one run."""
    quiet_seconds = QUIET_SECONDS
    if arguments.quick:
        arguments.members, arguments.lines, arguments.deletions, quiet_seconds = 5000, 20_000, 100, 3.0
    report = Report(("phase", "seconds", "lists", "p50 ms", "p95 ms", "max ms", "answers"))
    with local_clerk() as clerk, tempfile.TemporaryDirectory() as directory:
        tokens, organizations = _populate(clerk)
        work = _work(arguments, organizations, Path(directory))
        with _clients(clerk, tokens) as measured:
            time.sleep(quiet_seconds / 3)  # The processes warm up.
            quiet = time.time()
            time.sleep(quiet_seconds)
            busy = time.time()
            took = _at_once(work)
            end = time.time()
    phases = [
        _phase(report, "quiet", [one for one in measured if quiet <= one[0] < busy], busy - quiet),
        _phase(report, "busy", [one for one in measured if busy <= one[0] < end], end - busy),
    ]
    for name, seconds in took.items():
        report.add(name, f"{seconds:.1f}", "", "", "", "", "")
    ratio = phases[1] / phases[0]
    report.figures |= {"quiet_p95": phases[0], "busy_p95": phases[1], "ratio": ratio, "seconds": took}
    report.require("list p95 at most 3 times the quiet one", ratio <= 3)
    report.require("every list is answered with 200", {status for _, _, status, _ in measured} == {200})
    return report


def _phase(report: Report, name: str, measured: Sequence[Measured], seconds: float) -> float:
    """Add a row and return the 95th percentile."""
    cuts = quantiles([one[1] for one in measured], n=100)
    answers = Counter(f"{status} {sync}" for _, _, status, sync in measured)
    shown = ", ".join(f"{count} {answer}" for answer, count in sorted(answers.items()))
    milliseconds = [f"{value * 1000:.0f}" for value in (cuts[49], cuts[94], max(one[1] for one in measured))]
    report.add(name, f"{seconds:.1f}", len(measured), *milliseconds, shown)
    return cuts[94]


def _populate(clerk: SandboxControl) -> tuple[list[list[str]], list[ClerkOrganization]]:
    """Make organizations and users in Clerk; return the clients' tokens and the organizations."""
    owner = clerk.user()["id"]
    organizations = [
        str(clerk.organization(f"Organization {n}", owner, max_allowed_memberships=0)["id"])
        for n in range(ORGANIZATIONS)
    ]
    tokens = []
    for client in range(CLIENTS):
        users = [clerk.user()["id"] for _ in range(USERS_A_CLIENT)]
        for user in users:
            for number in range(MEMBERSHIPS_A_USER):
                clerk.membership(organizations[(client + number) % ORGANIZATIONS], user)
        tokens.append([clerk.token(user, expiresIn=3600) for user in users])
    return tokens, [
        ClerkOrganization(id=id_, name="Organization", created_at=1, updated_at=1) for id_ in organizations
    ]


def _memberships(organization: ClerkOrganization, count: int, name: str) -> list[ClerkMembership]:
    return [
        ClerkMembership(f"orgmem_{name}_{n}", f"user_{name}_{n}", "org:member", organization, 1, 1)
        for n in range(count)
    ]


def _work(
    arguments: argparse.Namespace, organizations: Sequence[ClerkOrganization], directory: Path
) -> dict[str, Callable[[], None]]:
    """Prepare the rows and the file, and return what runs beside the lists."""
    members = _memberships(BIG, arguments.members, "big")
    leaving = [
        membership
        for number, organization in enumerate(organizations)
        for membership in _memberships(
            organization, arguments.deletions // len(organizations), f"left{number}"
        )
    ]
    for start in range(0, len(members), BATCH):
        writer.write_memberships(members[start : start + BATCH])
    writer.write_memberships(leaving)
    tenant = Tenant.objects.create(name="Big")
    path = directory / "tenants.csv"
    path.write_text(
        "external_id,name,user_id,role\n"
        + "".join(f"t{n // 2},Tenant {n // 2},user_{n},member\n" for n in range(arguments.lines))
    )

    def link_members() -> None:
        link.link(tenant, BIG, members, listed_at=writer.clock(), complete=True, acting_user=None)
        assert Membership.objects.filter(tenant=tenant).count() == len(members)

    def import_lines() -> None:
        import_tenants(path, stopping=Event(), advance=lambda lines: None)

    def delete_memberships() -> None:
        for membership in leaving:
            deletions.record_membership_deleted(membership.id, membership)

    return {"link": link_members, "import": import_lines, "deletions": delete_memberships}


def _at_once(work: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Run all of the work at the same time, and return the seconds that each took."""

    def timed(action: Callable[[], None]) -> float:
        started = time.monotonic()
        try:
            action()
        finally:
            connections.close_all()
        return time.monotonic() - started

    with ThreadPoolExecutor(len(work)) as pool:
        pending = {name: pool.submit(timed, action) for name, action in work.items()}
        return {name: future.result() for name, future in pending.items()}


@contextmanager
def _clients(clerk: SandboxControl, tokens: list[list[str]]) -> Iterator[list[Measured]]:
    """Let the clients list in two web processes; the list is filled at the end of the block."""
    measured: list[Measured] = []
    environment = child_environment(clerk) | {"CLERK_SYNC_MAX_AGE_SECONDS": "1", "LOG_LEVEL": "ERROR"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks._listing_child"],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        parameters: dict[str, Any] = {"tokens": tokens[number::2], "pause": PAUSE_SECONDS}
        process.stdin.write(json.dumps(parameters) + "\n")
        process.stdin.flush()
    try:
        yield measured
    finally:
        for process in processes:
            output, _ = process.communicate()
            measured += [tuple(one) for one in json.loads(output)]
