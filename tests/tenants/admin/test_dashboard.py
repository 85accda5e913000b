"""The dashboard: the index of the admin, and a page of the tenants."""

from collections.abc import Callable
from datetime import timedelta
from html import escape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from clerk_integration.models import ClerkState, WebhookDelivery
from tenants.models import CreationAttempt, SyncRun, Tenant
from tests.sandbox import SandboxControl
from tests.tenants.admin.conftest import Staff
from tests.tenants.admin.hostile import IDS, TEXTS, assert_harmless
from tests.tenants.many_rows import fill, tables_scanned

INDEX = "/admin/"
PAGE = "/admin/tenants/tenant/dashboard/"

VIEWS = (
    "view_tenant",
    "view_tenanthistory",
    "view_syncrun",
    "view_creationattempt",
    "view_webhookdelivery",
)
MAX_STATEMENTS = 8


@pytest.fixture
def overseer(db: None) -> Staff:
    """A staff user who may view everything, by permissions of its own."""
    return Staff(*VIEWS)


def figures(response: Any) -> dict[str, Any]:
    shown = response.context["tenant_figures"] + response.context["work_figures"]
    return {figure.label: figure for figure in shown}


def store_work() -> None:
    SyncRun.objects.create(kind="migration", state="failed")
    CreationAttempt.objects.create(clerk_user_id="user_ada", body_hash="")
    WebhookDelivery.objects.create(svix_id="msg_1", event_type="x", status="failed")
    with connection.cursor() as cursor:
        # A job that may start now, and one whose time has not come.
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)"
            " VALUES ('x', 'now', NULL), ('x', 'later', now() + interval '1 hour')"
        )


@pytest.mark.parametrize("path", [INDEX, PAGE])
def test_dashboard_shows_the_numbers_and_asks_clerk_nothing(
    overseer: Staff,
    linked: Callable[..., Tenant],
    legacy: Callable[..., Tenant],
    sandbox: SandboxControl,
    path: str,
) -> None:
    linked("org_1", status="suspended")
    legacy("Old")
    store_work()

    shown = figures(overseer.get(path))

    numbers = {label: str(figure.number) for label, figure in shown.items()}
    assert numbers["Tenants"] == "2"
    assert [numbers[label] for label in ("Legacy", "Suspended", "Never synced", "Failed runs")] == ["1"] * 4
    assert numbers["Failed webhooks"] == numbers["Creations without an answer"] == "1"
    assert (numbers["Workers alive"], shown["Workers alive"].is_bad) == ("0", True)
    assert sandbox.requests() == []


def test_dashboard_each_number_links_to_the_list_of_its_rows(
    db: None, linked: Callable[..., Tenant], legacy: Callable[..., Tenant]
) -> None:
    staff = Client()
    staff.force_login(User.objects.create_superuser("root"))
    linked("org_1", status="suspended")
    linked("org_2", status="deactivated", deleted_at=Now(), last_synced_at=Now())
    linked("org_3", last_synced_at=Now() - timedelta(days=2))
    legacy("Old")
    store_work()

    for label, figure in figures(staff.get(INDEX)).items():
        if not figure.url:
            continue
        page = staff.get(figure.url)
        assert page.status_code == 200, label
        number = figure.number if isinstance(figure.number, int) else figure.number.number
        assert page.context["cl"].result_count == number, label


@pytest.mark.parametrize(
    ("permission", "labels", "charts"),
    [
        ("view_tenant", {"Tenants", "Linked to Clerk"}, []),
        ("view_webhookdelivery", {"Failed webhooks", "Waiting webhooks"}, ["deliveries", "failures"]),
        ("view_creationattempt", {"Creations without an answer"}, []),
        ("view_tenanthistory", set(), ["changes"]),
    ],
)
@pytest.mark.django_db
def test_dashboard_shows_only_what_the_user_may_view(
    permission: str, labels: set[str], charts: list[str]
) -> None:
    page = Staff(permission).get(INDEX)

    assert labels <= figures(page).keys()
    if permission != "view_tenant":
        assert figures(page).keys() == labels
    assert [chart.name for chart in page.context["charts"]] == charts
    assert page.context["connection"] is None
    assert not any(figure.url.startswith("/admin/procrastinate") for figure in figures(page).values())


@pytest.mark.django_db
def test_dashboard_without_any_permission_says_whom_to_ask() -> None:
    page = Staff().get(INDEX).content.decode()

    assert "Ask an administrator" in page


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (None, "not checked yet"),
        ({"error": "", "age": 0}, "reachable"),
        ({"error": "Clerk answered 503.", "age": 0}, "not reachable"),
        ({"error": "", "age": 3600}, "No worker has checked Clerk since"),
    ],
)
def test_dashboard_says_whether_clerk_answers_and_when_that_was_checked(
    overseer: Staff, stored: dict[str, Any] | None, shown: str
) -> None:
    if stored:
        checked_at = Now() - timedelta(seconds=stored["age"])
        ClerkState.objects.create(error=stored["error"], checked_at=checked_at, changed_at=checked_at)

    page = overseer.get(INDEX).content.decode()

    assert shown in page
    assert stored is None or escape(stored["error"]) in page


@pytest.mark.parametrize(("limit", "overdue"), [(1, True), (3, False), ("a day", False)])
def test_dashboard_calls_a_sync_overdue_when_the_alert_does(
    overseer: Staff, limit: object, overdue: bool
) -> None:
    started = Now() - timedelta(hours=2)
    SyncRun.objects.create(
        kind="full_sync", state="completed", cursor={"skip_memberships": False}, started_at=started
    )

    with override_settings(SYNC_ALERT_AGE_HOURS=limit):
        page = overseer.get(INDEX)

    assert page.context["connection"]["sync_is_overdue"] == overdue


@pytest.mark.parametrize("text", TEXTS, ids=IDS)
def test_dashboard_hostile_error_of_clerk_is_harmless(overseer: Staff, text: str) -> None:
    ClerkState.objects.create(error=text, checked_at=Now(), changed_at=Now())

    assert_harmless(overseer.get(INDEX).content.decode(), text)


@pytest.mark.parametrize("text", TEXTS, ids=IDS)
def test_creation_attempts_hostile_key_is_harmless(overseer: Staff, text: str) -> None:
    attempt = CreationAttempt.objects.create(
        clerk_user_id=text[:255], idempotency_key=text[:255], body_hash=""
    )

    for path in ("", f"{attempt.pk}/change/"):
        page = overseer.get(f"/admin/tenants/creationattempt/{path}").content.decode()
        assert_harmless(page, text[:255])


def statements(staff: Staff) -> CaptureQueriesContext:
    staff.get(INDEX)
    with CaptureQueriesContext(connection) as queries:
        assert staff.get(INDEX).status_code == 200
    return queries


def test_dashboard_takes_few_statements(overseer: Staff) -> None:
    assert len(statements(overseer)) <= MAX_STATEMENTS


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_dashboard_of_many_rows_takes_as_many_statements_and_scans_no_large_table() -> None:
    staff = Staff()
    staff_user = User.objects.get()
    staff_user.user_permissions.set(Permission.objects.filter(codename__in=VIEWS))
    fill(10)
    few = statements(staff)
    for table in ("memberships", "tenants", "webhook_deliveries"):
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table}")
    fill()

    many = statements(staff)

    assert len(many) == len(few) <= MAX_STATEMENTS
    assert tables_scanned(many) & {"tenants", "memberships"} == set()
