"""Every page of ours in a project with other time zones, languages and numbers than this one."""

import re
from collections.abc import Iterator

import pytest
from django.db.models.functions import Now
from django.test import Client

from clerk_integration.models import ClerkState, WebhookDelivery
from tenants.models import SyncRun
from tests.browser.pages import PAGES, Rows, make_rows
from tests.browser.site import ADMINISTRATORS, staff
from tests.sandbox import SandboxControl

CSV_AND_JSON = (
    "/admin/tenants/tenant/export/",
    "/admin/tenants/syncrun/{run}/progress/",
    "/admin/tenants/syncrun/{run}/report.csv",
)
FIRST_ID = 1_234_567
TABLES = (
    *("tenants", "memberships", "tenant_history", "creation_attempts", "sync_runs"),
    *("webhook_deliveries", "procrastinate_jobs"),
)


def pages(rows: Rows) -> Iterator[tuple[str, str]]:
    """Open every page of ours, and yield its URL and text."""
    client = Client()
    client.force_login(staff(ADMINISTRATORS))
    ours = [url(rows) for found in PAGES.values() for url in found.values()]
    for url in (*ours, *(url.format(run=rows.running.pk) for url in CSV_AND_JSON)):
        response = client.get(url, follow=True)
        assert response.status_code == 200, url
        yield url, response.getvalue().decode()


def store_checks_and_runs() -> None:
    """Store what a worker and two completed runs leave for the dashboard, and a delivery that waits."""
    ClerkState.objects.create(checked_at=Now(), changed_at=Now())
    for kind in ("full_sync", "dry_run"):
        SyncRun.objects.create(kind=kind, state="completed", cursor={"skip_memberships": False})
    WebhookDelivery.objects.create(svix_id="msg_waits", event_type="x", status="received")


@pytest.mark.usefixtures("db", "new_york_without_use_tz")
def test_pages_without_use_tz_are_shown(sandbox: SandboxControl) -> None:
    rows = make_rows(sandbox)
    store_checks_and_runs()

    for url, text in pages(rows):
        assert not re.search(r"\d\s+hours? ago", text), url
        if url.endswith("/export/"):
            assert text.count("+00:00") >= text.count("\r\n") - 1
