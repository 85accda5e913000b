"""The floor of a full sync: fetch each page, COPY it into a temporary table, and merge it with one statement.

It keeps no tombstones, no record of its pages, no locks and no history, sends no signals, retires nothing,
reads no page again if the list changed, and stops at the first record that is not as expected.
Prints one line of JSON.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

PAGE = 500

ORGANIZATIONS = (
    "id text, name text, slug text, image_url text, metadata jsonb, created bigint, updated bigint",
    """
    INSERT INTO tenants (clerk_org_id, name, slug, logo_url, clerk_metadata, clerk_created_at,
                         clerk_updated_at, last_synced_at)
    SELECT id, name, slug, image_url, metadata, created, updated, now() FROM incoming
    ON CONFLICT (clerk_org_id) DO UPDATE SET
        name = excluded.name, slug = excluded.slug, logo_url = excluded.logo_url,
        clerk_metadata = excluded.clerk_metadata, clerk_created_at = excluded.clerk_created_at,
        clerk_updated_at = excluded.clerk_updated_at, last_synced_at = excluded.last_synced_at
    WHERE (tenants.name, tenants.slug, tenants.logo_url, tenants.clerk_metadata, tenants.clerk_created_at,
           tenants.clerk_updated_at)
          IS DISTINCT FROM
          (excluded.name, excluded.slug, excluded.logo_url, excluded.clerk_metadata,
           excluded.clerk_created_at, excluded.clerk_updated_at)""",
)

MEMBERSHIPS = (
    "id text, organization text, user_id text, role text, created bigint, updated bigint",
    """
    INSERT INTO memberships (tenant_id, clerk_user_id, clerk_membership_id, role, is_active,
                             clerk_created_at, clerk_updated_at, written_at)
    SELECT tenants.id, incoming.user_id, incoming.id, incoming.role, true, incoming.created,
           incoming.updated, now()
    FROM incoming JOIN tenants ON tenants.clerk_org_id = incoming.organization
    ON CONFLICT (tenant_id, clerk_user_id) DO UPDATE SET
        clerk_membership_id = excluded.clerk_membership_id, role = excluded.role,
        is_active = excluded.is_active, clerk_created_at = excluded.clerk_created_at,
        clerk_updated_at = excluded.clerk_updated_at, written_at = excluded.written_at
    WHERE (memberships.clerk_membership_id, memberships.role, memberships.is_active,
           memberships.clerk_created_at, memberships.clerk_updated_at)
          IS DISTINCT FROM
          (excluded.clerk_membership_id, excluded.role, excluded.is_active, excluded.clerk_created_at,
           excluded.clerk_updated_at)""",
)


def organization_row(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return the columns of an organization."""
    metadata = json.dumps(record["public_metadata"])
    stamps = record["created_at"], record["updated_at"]
    return record["id"], record["name"], record["slug"], record["image_url"], metadata, *stamps


def membership_row(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return the columns of a membership."""
    ids = record["id"], record["organization"]["id"], record["public_user_data"]["user_id"]
    return *ids, record["role"], record["created_at"], record["updated_at"]


def merge(table: tuple[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
    """COPY the rows of a page and merge them, in one transaction that fires no trigger (no history)."""
    from django.db import connection, transaction

    columns, statement = table
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(f"CREATE TEMP TABLE incoming ({columns}) ON COMMIT DROP")
        with cursor.copy("COPY incoming FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(statement)


def pages(client: Any, path: str) -> Iterator[list[dict[str, Any]]]:
    """Fetch the pages of a list, oldest record first."""
    offset, total = 0, 1
    while offset < total:
        reply = client.get(path, params={"limit": PAGE, "offset": offset, "order_by": "+created_at"})
        page = reply.raise_for_status().json()
        yield page["data"]
        offset, total = offset + PAGE, page["total_count"]


def main() -> None:
    """Sync, and print the seconds that it took, the imports of the HTTP client included."""
    django.setup()
    started = time.perf_counter()
    import httpx
    from django.conf import settings

    headers = {"Authorization": f"Bearer {settings.CLERK_SECRET_KEY}"}
    with httpx.Client(base_url=settings.CLERK_API_URL, headers=headers, timeout=30) as client:
        for page in pages(client, "/organizations"):
            merge(ORGANIZATIONS, [organization_row(record) for record in page])
        for page in pages(client, "/organization_memberships"):
            merge(MEMBERSHIPS, [membership_row(record) for record in page])
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - started}) + "\n")


if __name__ == "__main__":
    main()
