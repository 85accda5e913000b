"""Fill the tables with many rows, and look at how PostgreSQL reads them."""

import json
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

MANY = 100_000

FILL = """
INSERT INTO tenants (name, slug, clerk_org_id, clerk_updated_at, status, deleted_at, last_synced_at)
SELECT 'Tenant ' || n, 'tenant-' || n,
       CASE WHEN n % 10 > 0 THEN 'org_' || n END, 1700000000000 + n,
       CASE n % 100 WHEN 1 THEN 'suspended' WHEN 2 THEN 'deactivated' WHEN 3 THEN 'deactivated'
       ELSE 'active' END,
       CASE WHEN n % 100 = 3 THEN now() END,
       CASE WHEN n % 1000 > 0 THEN now() - n * interval '1 second' END
FROM generate_series(1, %(rows)s) AS n;
INSERT INTO memberships (tenant_id, clerk_user_id, clerk_membership_id, role, is_active)
SELECT id, 'user_' || id %% 1000, 'orgmem_' || id, 'org:member', id %% 50 > 0 FROM tenants;
INSERT INTO webhook_deliveries (svix_id, event_type, organization_id, payload, status, received_at, due_at)
SELECT 'msg_' || n, 'organization.updated', 'org_' || n, '{"data": {}}',
       CASE n % 100 WHEN 1 THEN 'failed' WHEN 2 THEN 'received' ELSE 'processed' END,
       now() - (%(rows)s - n) * interval '10 seconds', NULL
FROM generate_series(1, %(rows)s) AS n;
INSERT INTO tenant_history (at, source, actor, tenant_id, clerk_user_id, action, changes)
SELECT now(), 'webhook', '', id, '', 'renamed', '{"name": ["a", "b"]}' FROM tenants;
INSERT INTO creation_attempts (marker, clerk_user_id, body_hash, state, answer)
SELECT gen_random_uuid(), 'user_' || id %% 1000, '', 'succeeded',
       json_build_object('clerk_org_id', clerk_org_id)
FROM tenants WHERE clerk_org_id IS NOT NULL;
WITH run AS (
    INSERT INTO sync_runs (kind, state, holder, instance_id, cursor, error, started_at, created, updated,
                           unchanged, retired, failed)
    VALUES ('dry_run', 'completed', '', '', '{"skip_memberships": false}', '', now(), 0, 0, 0, 0, 0)
    RETURNING id)
INSERT INTO sync_run_slices (run_id, part, number, outcomes, arguments, broken)
SELECT run.id, 'differences', n, json_build_object('org_' || n, json_build_object('problem', 'changed')),
       '{}', false
FROM run, generate_series(1, %(rows)s / 100) AS n;
""".replace("n %", "n %%")

TABLES = (
    "tenants",
    "memberships",
    "webhook_deliveries",
    "tenant_history",
    "creation_attempts",
    "sync_run_slices",
)


def fill(rows: int = MANY) -> None:
    """Insert so many tenants and deliveries; then vacuum the tables.

    Each tenant has a member and a change, each linked one a creation attempt. A dry run found differences of
    every hundredth tenant.
    """
    with connection.cursor() as cursor:
        # The triggers would write the history row by row.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(FILL, {"rows": rows})
        cursor.execute("SET session_replication_role = DEFAULT")
        for table in TABLES:
            cursor.execute(f"VACUUM ANALYZE {table}")


def tables_scanned(queries: CaptureQueriesContext) -> set[str]:
    """Return the tables of which a captured statement reads every row."""
    return {table for query in queries.captured_queries for table in _scanned(query["sql"])}


def _scanned(statement: str) -> Iterator[str]:
    if not statement.lstrip("( ").upper().startswith("SELECT"):
        return
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}".replace("%", "%%"), ())
        plans = cursor.fetchone()[0]
    plans = json.loads(plans) if isinstance(plans, str) else plans
    yield from _seq_scans(plans[0]["Plan"])


def _seq_scans(plan: dict[str, Any]) -> Iterator[str]:
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for child in plan.get("Plans", []):
        yield from _seq_scans(child)
