"""Every page of ours in a project with other time zones, languages and numbers than this one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from pytest_django import Settings

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


@contextmanager
def server_side_binding() -> Iterator[None]:
    """Let PostgreSQL bind the parameters of statements, as Django's option for psycopg does."""

    def connect_again() -> None:
        connection.close()
        vars(connection.features).pop("uses_server_side_binding", None)

    with patch.dict(connection.settings_dict["OPTIONS"], server_side_binding=True):
        connect_again()
        yield
    connect_again()


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


@pytest.mark.django_db(transaction=True)
def test_pages_with_server_side_binding_are_shown(
    sandbox: SandboxControl, capsys: pytest.CaptureFixture[str]
) -> None:
    with server_side_binding():
        rows = make_rows(sandbox)
        store_checks_and_runs()
        for _ in pages(rows):
            pass
        call_command("sync_runs", str(rows.batch.pk))
        call_command("sync_runs", str(rows.batch.pk), "--result", "done")

    assert capsys.readouterr().out.splitlines()[-1] == f"{rows.linked.pk} done"


@pytest.mark.django_db
def test_pages_in_german_keep_numbers_of_addresses_and_drawings(
    sandbox: SandboxControl, settings: Settings
) -> None:
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"ALTER SEQUENCE {table}_id_seq RESTART {FIRST_ID}")
    rows = make_rows(sandbox)
    store_checks_and_runs()

    for url, text in pages(rows):
        assert re.findall(r".{0,40}1\.23[45]\.\d{3}.{0,9}", text) == [], url
        assert re.findall(r"<(?:rect|svg|progress)[^>]*\d[,.]\d{3}\b[^>]*>", text) == [], url
        assert re.findall(r"<(?:rect|svg|progress)[^>]*\d,\d[^>]*>", text) == [], url
