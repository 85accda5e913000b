"""The page of one tenant."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from clerk_integration.models import WebhookDelivery
from tenants.admin.tenant_page import CHANGES, DELIVERIES, MEMBERS, logo_of
from tenants.models import CreationAttempt, Membership, Tenant, TenantHistory
from tests.tenants.admin.conftest import CHANGELIST, Staff, shown_messages
from tests.tenants.admin.hostile import IDS, TEXTS, assert_harmless

ORG = "org_1"
VIEW_EVERYTHING = (
    "view_tenant",
    "view_membership",
    "view_tenanthistory",
    "view_creationattempt",
    "view_webhookdelivery",
)


@pytest.fixture
def auditor(db: None) -> Staff:
    """A staff user who may see everything of a tenant, and change nothing."""
    return Staff(*VIEW_EVERYTHING)


def page_of(tenant: Tenant) -> str:
    return f"{CHANGELIST}{tenant.pk}/change/"


def shown(staff: Staff, tenant: Tenant) -> str:
    response = staff.get(page_of(tenant))
    assert response.status_code == 200
    return str(response.content.decode())


def add_rows(tenant: Tenant, count: int, *, start: int = 0, text: str = "x") -> None:
    """Add members, changes, deliveries and a creation attempt to the tenant."""
    for number in range(start, start + count):
        Membership.objects.create(tenant=tenant, clerk_user_id=f"user_{number}", role=text)
        TenantHistory.objects.create(
            tenant_id=tenant.pk, source="staff", actor=text, action="renamed", changes={"name": [text, "b"]}
        )
        WebhookDelivery.objects.create(
            svix_id=f"msg_{tenant.pk}_{number}",
            event_type="organization.updated",
            organization_id=tenant.clerk_org_id,
            status="failed",
            error=f"Traceback\nSomeError: {text}",
            payload={},
        )


@pytest.mark.parametrize("text", TEXTS, ids=IDS)
def test_tenant_page_hostile_texts_are_harmless(
    auditor: Staff, linked: Callable[..., Tenant], text: str
) -> None:
    columns = {
        "slug": text,
        "suspension_reason": text,
        "logo_url": f"https://{text}",
        "external_id": text[:99],
    }
    tenant = linked(ORG, text, status="suspended", clerk_metadata={"note": text}, **columns)
    add_rows(tenant, 1, text=text[:200])

    assert_harmless(shown(auditor, tenant), text)
    assert_harmless(auditor.get().content.decode(), text)
    assert_harmless(auditor.get("/admin/tenants/membership/").content.decode(), text)
    assert_harmless(auditor.get("/admin/tenants/tenanthistory/").content.decode(), text[:200])


def test_tenant_page_shows_members_as_the_api_answers_them(
    auditor: Staff, linked: Callable[..., Tenant], legacy: Callable[..., Tenant]
) -> None:
    early = datetime(2020, 1, 1, tzinfo=UTC)
    first, second = linked(ORG), linked("org_2")
    for tenant, days in ((first, 0), (second, 1)):
        joined = int((early + timedelta(days=days)).timestamp() * 1000)
        Membership.objects.create(
            tenant=tenant, clerk_user_id="user_both", role="org:admin", clerk_created_at=joined
        )
    Membership.objects.create(tenant=second, clerk_user_id="user_flagged", role="org:member", is_primary=True)
    Membership.objects.create(tenant=second, clerk_user_id="user_gone", role="org:member", is_active=False)

    members = auditor.get(page_of(second)).context["members"]["rows"]

    assert [(row.clerk_user_id, row.is_users_primary, row.is_active) for row in members] == [
        ("user_both", False, True),  # It joined `first` earlier.
        ("user_flagged", True, True),
        ("user_gone", False, False),
    ]
    [only] = auditor.get(page_of(first)).context["members"]["rows"]
    assert (only.is_users_primary, only.joined_at) == (True, early)


def test_tenant_page_shows_the_first_rows_and_links_to_all(
    auditor: Staff, linked: Callable[..., Tenant]
) -> None:
    few, many = linked(ORG), linked("org_2")
    add_rows(few, 3)
    add_rows(many, max(MEMBERS, CHANGES, DELIVERIES) + 1, start=3)

    page = auditor.get(page_of(many))

    sections = {"members": MEMBERS, "changes": CHANGES, "deliveries": DELIVERIES}
    for name, size in sections.items():
        section = page.context[name]
        assert (len(section["rows"]), section["has_more"]) == (size, True)
        of_all = auditor.get(section["url"])
        assert {getattr(row, "tenant_id", many.pk) for row in of_all.context["cl"].result_list} == {many.pk}
        assert of_all.context["cl"].result_count > size
    assert not auditor.get(page_of(few)).context["members"]["has_more"]


def test_tenant_page_shows_the_attempts_that_created_the_organization(
    auditor: Staff, linked: Callable[..., Tenant], legacy: Callable[..., Tenant]
) -> None:
    tenant, old = linked(ORG), legacy("Old")
    by_user = CreationAttempt.objects.create(
        clerk_user_id="user_1", body_hash="", state="succeeded", answer={"clerk_org_id": ORG}
    )
    by_migration = CreationAttempt.objects.create(
        clerk_user_id="backfill", body_hash="", idempotency_key=f"tenant:{old.pk}", state="unknown"
    )

    assert auditor.get(page_of(tenant)).context["attempts"] == [by_user]
    assert auditor.get(page_of(old)).context["attempts"] == [by_migration]
    assert "Reply lost" in shown(auditor, old)


def test_tenant_page_shows_who_changed_which_value(auditor: Staff, legacy: Callable[..., Tenant]) -> None:
    tenant = legacy("Old")
    TenantHistory.objects.create(
        tenant_id=tenant.pk, source="api", actor="user_9", action="renamed", changes={"slug": [None, "acme"]}
    )
    page = " ".join(shown(auditor, tenant).split())
    assert 'slug: - &rarr; <bdi class="tenants-text" dir="auto">acme</bdi>' in page
    assert '<bdi class="tenants-text" dir="auto">user_9</bdi> (API)' in page


@pytest.mark.parametrize(
    ("logo_url", "logo"),
    [
        ("https://img.clerk.com/a.png", "https://img.clerk.com/a.png"),
        ("http://img.clerk.com/a.png", ""),
        ("javascript:alert(1)", ""),
        ("data:image/svg+xml,<svg/>", ""),
        ("https:///a.png", ""),
        ("https://[a.png", ""),
        ("//img.clerk.com/a.png", ""),
        ("", ""),
    ],
)
def test_logo_only_https_with_a_host_is_shown(logo_url: str, logo: str) -> None:
    assert logo_of(Tenant(logo_url=logo_url)) == logo


def test_tenant_page_logo_has_a_fixed_size_and_sends_no_referrer(
    auditor: Staff, linked: Callable[..., Tenant]
) -> None:
    page = shown(auditor, linked(ORG, logo_url="https://img.clerk.com/a.png"))
    [image] = [line for line in page.splitlines() if "tenants-logo" in line]
    for attribute in ('width="64" height="64"', 'referrerpolicy="no-referrer"', 'alt=""'):
        assert attribute in image


@pytest.mark.parametrize(
    ("api_url", "link"),
    [
        ("https://api.clerk.com/v1", "https://dashboard.clerk.com/~/organizations/org_1"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/sandbox"),
    ],
)
def test_tenant_page_links_to_the_organization_in_clerk(
    auditor: Staff, linked: Callable[..., Tenant], settings: Settings, api_url: str, link: str
) -> None:
    settings.CLERK_API_URL = api_url
    assert f'href="{link}" target="_blank" rel="noopener noreferrer"' in shown(auditor, linked(ORG))


def test_tenant_page_shows_only_what_the_person_may_see(linked: Callable[..., Tenant]) -> None:
    tenant = linked(ORG)
    add_rows(tenant, 1)
    page = Staff("view_tenant", "view_membership").get(page_of(tenant))
    left_out = [name for name in ("changes", "deliveries", "attempts") if page.context[name] is None]
    assert left_out == ["changes", "deliveries", "attempts"]
    assert page.context["members"]["rows"]
    assert "Rename" not in [button.label for button in page.context["buttons"]]


def test_tenant_page_unknown_tenant_leads_to_the_list(viewer: Staff) -> None:
    response = viewer.get(f"{CHANGELIST}999/change/")
    assert (response.status_code, response["Location"]) == (302, CHANGELIST)
    assert shown_messages(response) == [("warning", "There is no tenant 999. It may have been deleted.")]


def test_tenant_page_of_many_rows_takes_no_more_statements(
    auditor: Staff, linked: Callable[..., Tenant]
) -> None:
    tenant = linked(ORG)
    counts = []
    for start, count in ((0, 3), (3, 30)):
        add_rows(tenant, count, start=start)
        with CaptureQueriesContext(connection) as queries:
            shown(auditor, tenant)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 10


def test_history_page_leads_to_the_changes_of_the_tenant(
    auditor: Staff, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy("Old")
    add_rows(legacy("Other"), 1)
    response = auditor.get(f"{CHANGELIST}{tenant.pk}/history/")
    changes = auditor.get(response["Location"]).context["cl"]
    assert {change.tenant_id for change in changes.result_list} <= {tenant.pk}
    assert auditor.get("/admin/tenants/tenanthistory/?q=acme").context["cl"].result_count == 0


def test_history_is_read_only(auditor: Staff, legacy: Callable[..., Tenant]) -> None:
    add_rows(legacy("Old"), 1)
    change = TenantHistory.objects.latest("id")
    page = f"/admin/tenants/tenanthistory/{change.pk}"
    assert auditor.get(f"{page}/change/").status_code == 200
    assert auditor.http.post(f"{page}/change/", {"actor": "x"}).status_code == 403
    assert auditor.http.post(f"{page}/delete/", {"post": "yes"}).status_code == 403
