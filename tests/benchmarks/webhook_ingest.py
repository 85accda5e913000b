"""The receiver of webhooks beside a bare view: deliveries per second, statements, memory."""

import argparse
import json
import subprocess
import sys
from typing import Any

from tests.benchmarks._clerk import child_environment, local_clerk
from tests.benchmarks._report import Report
from tests.benchmarks._turns import Turns
from tests.children import PROJECT
from tests.sandbox import SandboxControl
from tests.workers import database_url

WRITES = True
OURS, BARE, FLOOR = "receiver", "bare view: HMAC, BEGIN, insert, defer, COMMIT", "floor: HMAC, insert"
ORGANIZATIONS = 25
GROWTH_MIB = 2.0
"""Memory is flat below this: 45,000 deliveries that left 50 bytes each behind would be more."""

PUBLIC_METADATA = {
    "plan": "enterprise",
    "seats": 250,
    "region": "eu-central-1",
    "features": ["sso", "audit-log", "custom-roles", "data-residency", "priority-support"],
    "billing": {
        "customer": "cus_QxA1b2C3d4E5f6",
        "currency": "EUR",
        "interval": "year",
        "taxId": "DE123456789",
    },
    "branding": {"color": "#0f766e", "logo": "https://assets.example.com/logos/acme.svg", "theme": "dark"},
    "contacts": {"security": "security@acme.example.com", "billing": "accounts.payable@acme.example.com"},
    "limits": {"projects": 500, "storageGb": 2048, "apiCallsPerMinute": 6000},
}
PRIVATE_METADATA = {"crm": {"account": "0015g00000XyZ12AAF", "owner": "sales-emea"}, "risk": {"score": 12}}
MEMBER_METADATA = {
    "title": "Head of Platform Engineering",
    "department": "Engineering",
    "costCenter": "4711-EMEA",
    "manager": "user_2aBcDeFgHiJkLmNoPqRsTuVwXyZ",
    "preferences": {"digest": "weekly", "locale": "de-DE", "timezone": "Europe/Berlin", "beta": True},
    "skills": ["kubernetes", "postgresql", "python", "terraform", "observability"],
    "notifications": {"email": True, "sms": False, "slackChannel": "#platform-alerts"},
    "onboarding": {"completed": True, "steps": ["profile", "security", "team", "first-project"]},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size."""
    parser.add_argument("--rounds", type=int, default=240, help="rounds of 25 deliveries in each way")
    parser.add_argument("--deliveries", type=int, default=50_000, help="over which memory is watched")


def run(arguments: argparse.Namespace) -> Report:
    """Measure in one child process, with the settings of production.

    Both views are called through the same WSGI application: same middleware, same database connection
    with its check at each request, same bodies, fresh ids and signatures. The floor has nothing around it.
    """
    if arguments.quick:
        arguments.rounds, arguments.deliveries = 10, 1_000
    with local_clerk() as clerk:
        bodies = _events(clerk)
        found = _measure(clerk, bodies, arguments)
    report = Report()
    report.figures["body_bytes"] = sorted({round(len(body), -2) for body in bodies})
    _report_rates(report, found["rates"])
    _report_statements(report, found["statements"])
    _report_memory(report, found["memory"])
    return report


def _events(clerk: SandboxControl) -> list[str]:
    """Bodies as Clerk would send them: an organization is updated, a member joins, in turns."""
    clerk.webhooks(url="http://127.0.0.1:9/", paused=True)
    for number in range(ORGANIZATIONS):
        user = clerk.user(firstName="Grace", lastName="Hopper", emailAddress=f"grace{number}@example.com")
        organization = clerk.organization(
            f"Acme {number}", public_metadata=PUBLIC_METADATA, private_metadata=PRIVATE_METADATA
        )
        clerk.api("PATCH", f"/organizations/{organization['id']}", {"name": f"Acme Industries {number}"})
        clerk.membership(organization["id"], user["id"], "org:admin", public_metadata=MEMBER_METADATA)
    wanted = ("organization.updated", "organizationMembership.created")
    return [clerk.content(message).decode() for message in clerk.messages() if message["type"] in wanted]


def _measure(clerk: SandboxControl, bodies: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    child = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks._ingest_child"],
        cwd=PROJECT,
        env={
            **child_environment(clerk),
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": database_url(),
            "CLERK_WEBHOOK_SIGNING_SECRET": clerk.description["webhookSigningSecret"],
            "PYTHONWARNINGS": "ignore:No directory at",  # no static files were collected
        },
        input=json.dumps(
            {"bodies": bodies, "rounds": arguments.rounds, "deliveries": arguments.deliveries}
        ).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def _report_rates(report: Report, rates: dict[str, list[float]]) -> None:
    turns = Turns(dict(zip((OURS, BARE, FLOOR), rates.values(), strict=True)))
    report.compare("deliveries", turns, unit="/s")
    report.require("at least 1.15 times the bare view's rate", turns.ratio(OURS, BARE).median >= 1.15)
    report.require("at least 0.55 of the floor's rate", turns.ratio(OURS, FLOOR).median >= 0.55)


def _report_statements(report: Report, counts: dict[str, int]) -> None:
    report.figures["statements"] = counts
    report.add("statements", ", ".join(f"{kind}: {count}" for kind, count in counts.items()))
    report.require("at most 3 statements in any case", max(counts.values()) <= 3)


def _report_memory(report: Report, samples: list[tuple[int, float]]) -> None:
    first, last = samples[0], samples[-1]
    report.figures["memory_mib"] = {str(delivered): round(mib, 1) for delivered, mib in samples}
    for delivered, mib in (first, last):
        report.add("memory", f"after {delivered:,} deliveries", f"{mib:.1f} MiB")
    report.require(f"memory grows by less than {GROWTH_MIB:.0f} MiB", last[1] - first[1] < GROWTH_MIB)
