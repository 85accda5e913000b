"""The receiver of webhooks beside a bare view: deliveries per second, statements, memory."""

import argparse
import json
import subprocess
import sys
from statistics import median
from typing import Any

from tests.benchmarks._clerk import local_clerk
from tests.benchmarks._report import Report
from tests.children import PROJECT, child_environment
from tests.sandbox import SandboxControl

TARGET = 0.85
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
    parser.add_argument("--pairs", type=int, default=240, help="rounds of 25 deliveries for each of the two")
    parser.add_argument("--deliveries", type=int, default=50_000, help="over which memory is watched")


def run(arguments: argparse.Namespace) -> Report:
    """Measure in one child process, with the settings of production.

    Both views are called through the same WSGI application: same middleware, same database connection
    with its check at each request, same bodies, fresh ids and signatures; they take turns.
    """
    with local_clerk() as clerk:
        bodies = _events(clerk)
        found = _measure(clerk, bodies, arguments)
    report = Report(("what", "deliveries/s", "beside the bare view"))
    report.figures["body_bytes"] = sorted({round(len(body), -2) for body in bodies})
    _report_rates(report, found)
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
            **child_environment(clerk.description),
            "CLERK_WEBHOOK_SIGNING_SECRET": clerk.description["webhookSigningSecret"],
            "PYTHONWARNINGS": "ignore:No directory at",  # no static files were collected
        },
        input=json.dumps(
            {"bodies": bodies, "pairs": arguments.pairs, "deliveries": arguments.deliveries}
        ).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def _report_rates(report: Report, found: dict[str, Any]) -> None:
    receiver, bare = (median(rates) for rates in zip(*found["rates"], strict=True))
    ratio = median(ours / theirs for ours, theirs in found["rates"])
    report.add("receiver", f"{receiver:,.0f}", f"{ratio:.2f}")
    report.add("bare view: HMAC, insert, defer", f"{bare:,.0f}", "1.00")
    for name, rate in found["floors"].items():
        report.add(f"floor: {name} alone", f"{rate:,.0f}", f"{rate / bare:.2f}")
    report.figures |= {
        "receiver_per_second": round(receiver),
        "bare_per_second": round(bare),
        "ratio": round(ratio, 3),
        "floors_per_second": {name: round(rate) for name, rate in found["floors"].items()},
    }
    report.require(f"at least {TARGET} of the bare view's rate", ratio >= TARGET)


def _report_statements(report: Report, counts: dict[str, int]) -> None:
    for kind, count in counts.items():
        report.add(f"statements: {kind}", count, "")
    report.figures["statements"] = counts
    report.require("at most 3 statements for a new delivery", counts["new"] <= 3)
    report.require("at most 2 statements for a repeat", max(counts["repeat"], counts["processed"]) <= 2)


def _report_memory(report: Report, samples: list[tuple[int, float]]) -> None:
    for delivered, mib in (samples[0], samples[-1]):
        report.add(f"memory after {delivered:,} deliveries", f"{mib:.1f} MiB", "")
    growth = samples[-1][1] - samples[0][1]
    report.figures["memory_mib"] = {str(delivered): round(mib, 1) for delivered, mib in samples}
    report.require(f"memory grows by less than {GROWTH_MIB:.0f} MiB", growth < GROWTH_MIB)
