"""Writing pages: our statement beside update_or_create for each row, and beside COPY with a merge."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median

from django.db import connection, transaction

from clerk_integration.entities import ClerkOrganization
from tenants.mirror import writer
from tenants.models import SyncRun, SyncRunPage, Tenant
from tests.benchmarks._report import Report

WRITES = True
PAGE = 500
ROUNDS = 5

Pages = Sequence[Sequence[ClerkOrganization]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the size."""
    parser.add_argument("--organizations", type=int, default=5_000)


def run(arguments: argparse.Namespace) -> Report:
    """Write the same pages in three ways: into an empty table, unchanged, and all changed."""
    report = Report(("rows", "ours", "update_or_create", "times faster", "COPY + merge", "times the floor"))
    for state in ("new", "unchanged", "changed"):
        ours, naive, floor = _measure(arguments.organizations, state)
        faster, slower = naive / ours, ours / floor
        cells = (f"{ours:.3f} s", f"{naive:.3f} s", f"{faster:.1f}", f"{floor:.3f} s", f"{slower:.2f}")
        report.add(f"{arguments.organizations:,} {state}", *cells)
        report.figures[state] = {"ours": ours, "update_or_create": naive, "copy_merge": floor}
        report.require(f"{state}: at least 25 times faster than update_or_create", faster >= 25)
        report.require(f"{state}: at most 3 times COPY + merge", slower <= 3)
    return report


def _measure(count: int, state: str) -> tuple[float, float, float]:
    """The median time of each way, in turns, each on the same rows in the same state."""
    ways = (_write_ours, _update_or_create, _copy_and_merge)
    times: dict[Callable[[Pages], None], list[float]] = {way: [] for way in ways}
    for round_number in range(ROUNDS):
        for way in ways:
            if way is _update_or_create and round_number:
                continue  # Minutes, and never in doubt.
            times[way].append(_time(way, count, state))
    ours, naive, floor = (median(times[way]) for way in ways)
    return ours, naive, floor


def _time(way: Callable[[Pages], None], count: int, state: str) -> float:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE tenants, memberships, sync_runs, sync_run_pages, tombstones CASCADE")
    if state != "new":
        for page in _pages(count, version=1):
            writer.write_organizations(page)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tenants")
    pages = _pages(count, version=2 if state == "changed" else 1)
    started = time.perf_counter()
    way(pages)
    seconds = time.perf_counter() - started
    assert Tenant.objects.filter(name__endswith=f"v{2 if state == 'changed' else 1}").count() == count
    return seconds


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
    """The floor: COPY each page into a temporary table and merge it with one statement.

    It keeps no tombstones, no lock order and no record of the page, and it sends no signals.
    """
    for page in pages:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "CREATE TEMP TABLE incoming (id text, name text, slug text, image_url text, metadata jsonb,"
                " created bigint, updated bigint) ON COMMIT DROP"
            )
            with cursor.copy("COPY incoming FROM STDIN") as copy:
                for record in page:
                    metadata = json.dumps(record.public_metadata)
                    stamps = (record.created_at, record.updated_at)
                    copy.write_row((record.id, record.name, record.slug, record.image_url, metadata, *stamps))
            cursor.execute(
                "INSERT INTO tenants (clerk_org_id, name, slug, logo_url, clerk_metadata,"
                " clerk_created_at, clerk_updated_at, last_synced_at)"
                " SELECT id, name, slug, image_url, metadata, created, updated, now() FROM incoming"
                " ON CONFLICT (clerk_org_id) DO UPDATE SET name = excluded.name, slug = excluded.slug,"
                " logo_url = excluded.logo_url, clerk_metadata = excluded.clerk_metadata,"
                " clerk_created_at = excluded.clerk_created_at, clerk_updated_at = excluded.clerk_updated_at,"
                " last_synced_at = excluded.last_synced_at"
                " WHERE (tenants.name, tenants.slug, tenants.logo_url, tenants.clerk_metadata,"
                " tenants.clerk_created_at, tenants.clerk_updated_at) IS DISTINCT FROM (excluded.name,"
                " excluded.slug, excluded.logo_url, excluded.clerk_metadata, excluded.clerk_created_at,"
                " excluded.clerk_updated_at)"
            )
