"""The whole sync beside a loop in the usual style: list, get each, update_or_create each."""

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
from tests.children import PROJECT
from tests.sandbox import SandboxControl

MEMBERS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size, and the part of it that the loop is measured on."""
    parser.add_argument("--organizations", type=int, default=20_000)
    parser.add_argument("--share", type=int, default=500, help="organizations that the loop syncs")


def run(arguments: argparse.Namespace) -> Report:
    """Time the command with its start, and the loop on a share that is scaled up."""
    report = Report(("way", "organizations", "seconds", "calls", "seconds for all"))
    count, share = arguments.organizations, min(arguments.share, arguments.organizations)
    with local_clerk(organizations=count, members=MEMBERS) as clerk:
        loop, loop_calls = _time_loop(clerk, share)
        _empty()
        ours, our_calls = _time_command(clerk)
    scaled = loop * count / share
    report.add("list, get each, update_or_create each", share, f"{loop:.1f}", loop_calls, f"{scaled:.0f}")
    report.add("manage.py sync_from_clerk", count, f"{ours:.1f}", our_calls, f"{ours:.1f}")
    report.figures |= {
        "seconds": ours,
        "loop_seconds": loop,
        "loop_share": share,
        "loop_seconds_scaled": scaled,
        "times_faster": scaled / ours,
    }
    report.require("at least 10 times faster, the loop scaled up from its share", scaled / ours >= 10)
    return report


def _time_command(clerk: SandboxControl) -> tuple[float, int]:
    clerk.clear_requests()
    started = time.perf_counter()
    command = subprocess.run(
        [sys.executable, "manage.py", "sync_from_clerk", "--json", "--skip-checks"],
        cwd=PROJECT,
        env=child_environment(clerk),
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds = time.perf_counter() - started
    assert json.loads(command.stdout.splitlines()[-1])["state"] == "completed"
    return seconds, len(clerk.requests())


def _time_loop(clerk: SandboxControl, share: int) -> tuple[float, int]:
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
        clerk.clear_requests()
        started = time.perf_counter()
        for clerk_org_id in ids:
            _sync_one(clerk_org_id)
        return time.perf_counter() - started, len(clerk.requests())


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


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE tenants, memberships CASCADE")
