"""The read-only admin pages of tenants and memberships."""

from collections.abc import Callable

import pytest
from django.contrib import admin
from django.db import connection
from django.db.models import Model
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from clerk_integration.models import WebhookDelivery
from tenants.models import CreationAttempt, Membership, Tenant, TenantHistory
from tests.tenants.admin.conftest import CHANGELIST, Staff

MEMBERSHIPS = "/admin/tenants/membership/"
SCRIPT = "<script>alert(1)</script>"


def names(staff: Staff, query: str) -> set[str]:
    response = staff.get(f"{CHANGELIST}{query}")
    assert response.status_code == 200
    return {tenant.name for tenant in response.context["cl"].result_list}


def statements(staff: Staff, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert staff.get(path).status_code == 200
    return len(queries)


def test_tenant_list_shows_the_number_of_active_members(
    viewer: Staff, linked: Callable[..., Tenant], legacy: Callable[..., Tenant]
) -> None:
    acme = linked("org_1", slug="acme")
    legacy("Old & Sons", {"user_1": "owner", "user_2": "member"})
    for number, active in enumerate([True, True, True, False]):
        Membership.objects.create(
            tenant=acme, clerk_user_id=f"user_{number}", role="org:member", is_active=active
        )

    page = viewer.get()

    assert {tenant.name: tenant.members_count for tenant in page.context["cl"].result_list} == {
        "Acme": 3,
        "Old & Sons": 2,
    }
    for shown in ("org_1", "acme", "Old &amp; Sons"):
        assert shown in page.content.decode()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?linked=true", {"Acme", "Gone"}),
        ("?linked=false", {"Old"}),
        ("?status__exact=deactivated", {"Gone"}),
        ("?q=acm", {"Acme"}),
        ("?q=the-old-one", {"Old"}),
        ("?q=org_2", {"Gone"}),
    ],
)
def test_tenant_list_filter_and_search_find_tenants(
    viewer: Staff,
    linked: Callable[..., Tenant],
    legacy: Callable[..., Tenant],
    query: str,
    expected: set[str],
) -> None:
    linked("org_1", "Acme")
    linked("org_2", "Gone", status="deactivated")
    legacy("Old", slug="the-old-one")
    assert names(viewer, query) == expected


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "path",
    [
        f"{CHANGELIST}?status__exact=%00",
        f"{CHANGELIST}export/?status__exact=%00",
        "/admin/tenants/syncrun/?kind__exact=%00",
        "/admin/procrastinate/procrastinatejob/?status__exact=unknown",
        "/admin/clerk_integration/webhookdelivery/?status__exact=%00",
    ],
)
def test_list_with_a_filter_that_postgresql_refuses_leads_to_the_whole_list(viewer: Staff, path: str) -> None:
    response = viewer.get(path)
    assert response.status_code == 302
    assert viewer.get(response["Location"]).status_code == 200


def test_autocomplete_of_tenants_finds_by_name_and_nothing_for_a_nul(
    viewer: Staff, legacy: Callable[..., Tenant]
) -> None:
    """Django's own view, which passes on what a list refuses."""
    legacy("Acme")
    url = "/admin/autocomplete/?app_label=tenants&model_name=membership&field_name=tenant&term="

    assert [found["text"] for found in viewer.get(f"{url}acm").json()["results"]] == ["Acme"]
    for term in ("%00", "acm%00"):
        assert viewer.get(url + term).json()["results"] == []


@pytest.mark.django_db
@pytest.mark.parametrize("model", [Tenant, Membership, TenantHistory, CreationAttempt, WebhookDelivery])
def test_search_for_a_nul_finds_nothing(legacy: Callable[..., Tenant], model: type[Model]) -> None:
    legacy("Acme", {"user_ada": "owner"})
    Tenant.objects.update(name="Renamed")
    CreationAttempt.objects.create(clerk_user_id="user_ada", body_hash="")
    WebhookDelivery.objects.create(svix_id="msg_1", event_type="x")
    page = admin.site.get_model_admin(model)

    rows, _ = page.get_search_results(RequestFactory().get("/"), model._default_manager.all(), "a\0")

    assert (model._default_manager.exists(), list(rows)) == (True, [])


def test_membership_list_shows_the_tenant(viewer: Staff, legacy: Callable[..., Tenant]) -> None:
    legacy("Acme", {"user_ada": "org:admin"})
    page = viewer.get(f"{MEMBERSHIPS}?q=user_ada").content.decode()
    for shown in ("user_ada", "Acme", "org:admin"):
        assert shown in page


@pytest.mark.parametrize("path", [CHANGELIST, MEMBERSHIPS])
def test_list_of_many_rows_takes_no_more_statements(
    operator: Staff, legacy: Callable[..., Tenant], path: str
) -> None:
    legacy("Acme", {"user_1": "owner"})
    few = statements(operator, path)
    for number in range(20):
        legacy(f"Acme {number}", {"user_1": "owner", "user_2": "member"})
    assert statements(operator, path) == few


def test_page_with_html_in_names_from_clerk_escapes_it(viewer: Staff, linked: Callable[..., Tenant]) -> None:
    tenant = linked("org_1", SCRIPT, logo_url="javascript:alert(1)", clerk_metadata={"a": SCRIPT})
    membership = Membership.objects.create(tenant=tenant, clerk_user_id="user_1", role=SCRIPT)
    for path in (
        CHANGELIST,
        f"{CHANGELIST}{tenant.pk}/change/",
        MEMBERSHIPS,
        f"{MEMBERSHIPS}{membership.pk}/change/",
    ):
        page = viewer.get(path).content.decode()
        assert "&lt;script&gt;alert(1)" in page
        assert SCRIPT not in page
        assert 'href="javascript:' not in page


def test_page_add_change_and_delete_are_refused(operator: Staff, legacy: Callable[..., Tenant]) -> None:
    tenant = legacy("Acme", {"user_1": "owner"})
    membership = Membership.objects.get()
    for row in (f"{CHANGELIST}{tenant.pk}", f"{MEMBERSHIPS}{membership.pk}"):
        page = operator.get(f"{row}/change/")
        assert page.status_code == 200
        assert 'name="_save"' not in page.content.decode()
        assert operator.http.post(f"{row}/change/", {"name": "Other", "role": "x"}).status_code == 403
        assert operator.http.post(f"{row}/delete/", {"post": "yes"}).status_code == 403
    for path in (CHANGELIST, MEMBERSHIPS):
        assert operator.get(f"{path}add/").status_code == 403
    assert Tenant.objects.get().name == "Acme"


def test_tenant_list_operator_sees_the_actions(operator: Staff, legacy: Callable[..., Tenant]) -> None:
    legacy("Acme")
    assert set(dict(operator.get().context["action_form"].fields["action"].choices)) == {
        "",
        "sync",
        "create_in_clerk",
        "link",
        "unlink",
        "restore",
        "suspend",
        "deactivate",
        "reactivate",
    }


def test_tenant_list_viewer_sees_no_actions(viewer: Staff, legacy: Callable[..., Tenant]) -> None:
    legacy("Acme")
    assert viewer.get().context["action_form"] is None


@pytest.mark.django_db
def test_tenant_list_staff_without_permission_is_refused() -> None:
    assert Staff().get().status_code == 403


@pytest.mark.django_db
def test_tenant_list_anonymous_user_is_sent_to_the_login() -> None:
    response = Client().get(CHANGELIST)
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")
