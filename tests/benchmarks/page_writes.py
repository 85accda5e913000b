"""Writing pages: our statement beside update_or_create for each row, and beside COPY with a merge."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from django.db import connection

from clerk_integration.entities import ClerkOrganization
from tenants.mirror import writer
from tenants.models import SyncRun, SyncRunPage, Tenant
from tests.benchmarks._copy_child import ORGANIZATIONS, merge
from tests.benchmarks._report import Report
from tests.benchmarks._turns import Measure, take_turns

WRITES = True
PAGE = 500
OURS, ROWS, FLOOR = "write_organization_page", "update_or_create", "COPY, merge"

Pages = Sequence[Sequence[ClerkOrganization]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size, and the part of it that is written row by row."""
    parser.add_argument("--organizations", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=int, default=500, help="organizations that update_or_create writes")


def run(arguments: argparse.Namespace) -> Report:
    """Write the same pages in three ways: into an empty table, unchanged, and all changed."""
    if arguments.quick:
        arguments.organizations, arguments.rounds, arguments.share = 1000, 1, 100
    report = Report()
    for state in ("new", "unchanged", "changed"):
        turns = take_turns(_ways(arguments, state), rounds=arguments.rounds, warm_up=0)
        report.compare(f"{arguments.organizations:,} {state}", turns, unit="s")
        faster, slower = turns.ratio(ROWS, OURS).median, turns.ratio(OURS, FLOOR).median
        report.require(
            f"{state}: at least 25 times faster than {ROWS}, scaled up from its share", faster >= 25
        )
        report.require(f"{state}: at most 3 times {FLOOR}", slower <= 3)
    return report


def _ways(arguments: argparse.Namespace, state: str) -> dict[str, Measure]:
    """Return the ways: each writes the same rows into a table in the same state."""
    version = 2 if state == "changed" else 1

    def timed(write: Callable[[Pages], None], share: int) -> Measure:
        def measure() -> float:
            _prepare(arguments.organizations, state)
            pages = _pages(share, version=version)
            started = time.perf_counter()
            write(pages)
            seconds = time.perf_counter() - started
            assert Tenant.objects.filter(name__endswith=f"v{version}").count() >= share
            scale: float = arguments.organizations / share
            return seconds * scale

        return measure

    every = arguments.organizations
    return {
        OURS: timed(_write_ours, every),
        ROWS: timed(_update_or_create, min(arguments.share, every)),
        FLOOR: timed(_copy_and_merge, every),
    }


def _prepare(count: int, state: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE tenants, memberships, tenant_history, sync_runs, sync_run_pages, tombstones CASCADE"
        )
    if state != "new":
        for page in _pages(count, version=1):
            writer.write_organizations(page)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tenants")


def _pages(count: int, *, version: int) -> Pages:
    organizations = [
        ClerkOrganization(
            id=f"org_{number:027d}",
            name=f"Organization {number} v{version}",
            slug=f"organization-{number}",
            image_url=f"https://img.clerk.com/{number}",
            public_metadata={"plan": "pro", "seats": number},
            created_at=1_700_000_000_000 + number,
            updated_at=1_700_000_000_000 + number + version,
        )
        for number in range(count)
    ]
    return [organizations[start : start + PAGE] for start in range(0, count, PAGE)]


def _write_ours(pages: Pages) -> None:
    """What a full sync does with its pages, the record of the pages included."""
    run_of_pages = SyncRun.objects.create(kind=SyncRun.Kind.FULL_SYNC, holder="benchmark")
    for number, page in enumerate(pages):
        ids = [organization.id for organization in page]
        total = len(pages) * PAGE
        on_record = SyncRunPage(
            run=run_of_pages,
            listing="organizations",
            pass_number=1,
            offset=number * PAGE,
            total=total,
            skipped=0,
            ids=ids,
        )
        writer.write_organization_page(on_record, page)


def _update_or_create(pages: Pages) -> None:
    for page in pages:
        for organization in page:
            Tenant.objects.update_or_create(
                clerk_org_id=organization.id,
                defaults={
                    "name": organization.name,
                    "slug": organization.slug,
                    "logo_url": organization.image_url,
                    "clerk_metadata": organization.public_metadata,
                    "clerk_created_at": organization.created_at,
                    "clerk_updated_at": organization.updated_at,
                    "last_synced_at": datetime.now(UTC),
                },
            )


def _copy_and_merge(pages: Pages) -> None:
    """Write without tombstones, lock order, record of the page, history and signals."""
    for page in pages:
        merge(
            ORGANIZATIONS,
            [
                (
                    record.id,
                    record.name,
                    record.slug,
                    record.image_url,
                    json.dumps(record.public_metadata),
                    record.created_at,
                    record.updated_at,
                )
                for record in page
            ],
        )
