"""The lists, the page of a tenant and the page of a delivery with 100,000 rows: statements and plans."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clerk_integration.models import WebhookDelivery
from tenants.models import Tenant
from tests.cleanup import empty_tables
from tests.tenants.admin.conftest import Staff
from tests.tenants.many_rows import MANY, fill, tables_scanned

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

TENANTS, MEMBERSHIPS = "/admin/tenants/tenant/", "/admin/tenants/membership/"
HISTORY, CREATIONS = "/admin/tenants/tenanthistory/", "/admin/tenants/creationattempt/"
DELIVERIES = "/admin/clerk_integration/webhookdelivery/"
VIEWS = (
    "view_tenant",
    "view_membership",
    "view_tenanthistory",
    "view_creationattempt",
    "view_webhookdelivery",
)
LARGE_TABLES = {"tenants", "memberships", "tenant_history", "creation_attempts", "webhook_deliveries"}

MEMBERS_OF_ONE = 10_000
"""Members of the tenant whose page is opened."""

PATHS = (
    TENANTS,
    f"{TENANTS}?p=900",
    f"{TENANTS}?q=tenant",
    f"{TENANTS}?q=tenant+5",
    f"{TENANTS}?q=tenant-5",
    f"{TENANTS}?q=org_5",
    f"{TENANTS}?q=user_5",
    f"{TENANTS}?q=5",
    f"{TENANTS}?q=nothing",
    f"{TENANTS}?status__exact=active",
    f"{TENANTS}?status__exact=suspended",
    f"{TENANTS}?status__exact=deactivated",
    f"{TENANTS}?linked=true",
    f"{TENANTS}?linked=false",
    f"{TENANTS}?deleted=true",
    f"{TENANTS}?deleted=false",
    f"{TENANTS}?drift=true",
    f"{TENANTS}?synced=never",
    f"{TENANTS}?synced=day",
    f"{TENANTS}?synced=week",
    f"{TENANTS}?status__exact=active&linked=true&q=tenant",
    f"{TENANTS}?_facets=True",
    MEMBERSHIPS,
    f"{MEMBERSHIPS}?q=user_5",
    f"{MEMBERSHIPS}?q=tenant+5",
    f"{MEMBERSHIPS}?q=org_5",
    f"{MEMBERSHIPS}?active=true",
    f"{MEMBERSHIPS}?active=false",
    f"{MEMBERSHIPS}?tenant__id__exact={{tenant}}",
    HISTORY,
    f"{HISTORY}?q={{tenant}}",
    f"{HISTORY}?tenant_id__exact={{tenant}}",
    f"{TENANTS}{{tenant}}/change/",
    CREATIONS,
    f"{CREATIONS}?unresolved=true",
    DELIVERIES,
    f"{DELIVERIES}?q=org_5",
    f"{DELIVERIES}?q=msg_5",
    f"{DELIVERIES}?status__exact=failed",
    f"{DELIVERIES}?status__exact=processed",
    f"{DELIVERIES}?event_type=organization.updated",
    f"{DELIVERIES}{{delivery}}/change/",
)

ADD_MEMBERS = """
INSERT INTO memberships (tenant_id, clerk_user_id, role)
SELECT %s, 'user_more_' || n, 'org:member' FROM generate_series(1, %s) AS n
"""


def opened(rows: int) -> dict[str, CaptureQueriesContext]:
    """Fill the tables, open every page, and return the statements of each."""
    staff = Staff(*VIEWS)
    fill(rows)
    tenant = Tenant.objects.exclude(clerk_org_id=None).earliest("id").pk
    with connection.cursor() as cursor:
        cursor.execute(ADD_MEMBERS, [tenant, min(rows, MEMBERS_OF_ONE)])
        cursor.execute("VACUUM ANALYZE memberships")
    delivery = WebhookDelivery.objects.earliest("id").pk
    ContentType.objects.get_for_model(WebhookDelivery)  # Django reads it once per process.
    return {path: _statements(staff, path.format(tenant=tenant, delivery=delivery)) for path in PATHS}


def _statements(staff: Staff, path: str) -> CaptureQueriesContext:
    with CaptureQueriesContext(connection) as queries:
        response = staff.get(path)
    assert response.status_code == 200, path
    return queries


def test_pages_of_many_rows_take_as_many_statements_and_scan_no_large_table(
    request: pytest.FixtureRequest,
) -> None:
    few = {path: len(queries) for path, queries in opened(10).items()}
    empty_tables(request.node)

    many = opened(MANY)

    scanned = {path: sorted(tables_scanned(queries) & LARGE_TABLES) for path, queries in many.items()}
    assert {path: tables for path, tables in scanned.items() if tables} == {}
    counts = {path: len(queries) for path, queries in many.items()}
    estimated = {path: counts[path] - few[path] for path in PATHS if counts[path] != few[path]}
    assert estimated == {}
