"""The admin page that links a legacy tenant, against the local Clerk."""

import re
from collections.abc import Callable

import pytest
from django.test import Client
from pytest_django import Settings

from tenants.models import Membership, Tenant
from tenants.services import sync_clerk_org_to_db
from tests.sandbox import SandboxControl
from tests.tenants.admin.conftest import Staff, link_url, shown_messages


@pytest.fixture
def old_sons(legacy: Callable[..., Tenant]) -> Tenant:
    return legacy("Old & Sons", {"user_local": "owner"}, slug="old-sons")


def refusal(staff: Staff, tenant: Tenant, clerk_org_id: str) -> str:
    """Submit the form and return its only error; check that it keeps the id and that nothing is written."""
    response = staff.link(tenant, clerk_org_id)
    assert response.status_code == 200
    form = response.context["form"]
    assert form["clerk_org_id"].value() == clerk_org_id
    assert f'value="{clerk_org_id}"' in response.content.decode()
    assert shown_messages(response) == []
    assert Tenant.objects.get(pk=tenant.pk).clerk_org_id is None
    [errors] = form.errors.values()
    [error] = errors
    return str(error)


def test_link_page_get_shows_the_tenant_and_calls_no_clerk(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    page = operator.get(link_url(old_sons)).content.decode()
    for shown in ("Old &amp; Sons", "old-sons", "1 active member)", "Cancel", "merged into this one"):
        assert shown in page
    assert re.search(r'<form method="post"[^>]*>\s*<input type="hidden" name="csrfmiddlewaretoken"', page)
    assert sandbox.requests() == []


@pytest.mark.django_db(transaction=True)
def test_link_page_organization_with_a_mirror_only_tenant_absorbs_it(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    user = sandbox.user()["id"]
    organization = sandbox.organization("Old & Sons Ltd", user)
    sync_clerk_org_to_db(organization["id"])

    response = operator.link(old_sons, f"  {organization['id']} ")

    assert (response.status_code, response["Location"]) == (
        302,
        f"/admin/tenants/tenant/{old_sons.pk}/change/",
    )
    linked = Tenant.objects.get()
    assert (linked.pk, linked.name) == (old_sons.pk, "Old & Sons Ltd")
    assert shown_messages(response) == [
        ("success", f"Old & Sons Ltd (tenant {linked.pk}) is linked to {organization['id']}.")
    ]
    assert set(Membership.objects.values_list("clerk_user_id", flat=True)) == {user, "user_local"}


@pytest.mark.parametrize("clerk_org_id", ["acme", "org_1/../x", "user_1", "org_<script>", "org_" + "a" * 300])
def test_link_page_malformed_id_calls_no_clerk(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant, clerk_org_id: str
) -> None:
    response = operator.link(old_sons, clerk_org_id)
    assert "is not an organization id" in str(response.context["form"].errors["clerk_org_id"])
    assert "<script>'" not in response.content.decode()
    assert sandbox.requests() == []


def test_link_page_without_an_id_requires_one(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    assert "required" in operator.link(old_sons, " ").content.decode()
    assert sandbox.requests() == []


def test_link_page_unknown_organization_is_refused(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    assert refusal(operator, old_sons, "org_unknown") == "Clerk has no organization org_unknown."


def test_link_page_organization_with_local_data_names_the_reasons(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    organization = sandbox.organization("Acme")
    sync_clerk_org_to_db(organization["id"])
    Tenant.objects.filter(clerk_org_id=organization["id"]).update(status="suspended")

    assert "its status is suspended" in refusal(operator, old_sons, organization["id"])
    assert Tenant.objects.count() == 2


def test_link_page_deleted_organization_is_refused(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant, linked: Callable[..., Tenant]
) -> None:
    organization = sandbox.organization("Acme")
    deleted = linked(organization["id"])
    sandbox.fault(f"GET /v1/organizations/{organization['id']}", status=404)
    sync_clerk_org_to_db(organization["id"])
    deleted.refresh_from_db()
    assert deleted.deleted_at is not None

    assert "was deleted in Clerk" in refusal(operator, old_sons, organization["id"])


def test_link_page_while_clerk_is_down_is_refused(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant, settings: Settings
) -> None:
    settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
    assert "Clerk" in refusal(operator, old_sons, "org_1")


@pytest.mark.parametrize("method", ["get", "post"])
def test_link_page_linked_tenant_is_refused(
    sandbox: SandboxControl, operator: Staff, linked: Callable[..., Tenant], method: str
) -> None:
    tenant = linked("org_1", "Acme")

    response = getattr(operator.http, method)(link_url(tenant), {"clerk_org_id": "org_2"})

    assert (response.status_code, response["Location"]) == (302, "/admin/tenants/tenant/")
    assert shown_messages(response) == [
        ("error", f"Acme (tenant {tenant.pk}) is already linked to org_1. Nothing was changed.")
    ]
    assert sandbox.requests() == []


def test_link_page_unknown_tenant_is_not_found(operator: Staff) -> None:
    assert operator.get("/admin/tenants/tenant/4711/do/link/").status_code == 404


def test_link_page_viewer_is_refused(sandbox: SandboxControl, viewer: Staff, old_sons: Tenant) -> None:
    assert viewer.get(link_url(old_sons)).status_code == 403
    assert viewer.link(old_sons, sandbox.organization("Acme")["id"]).status_code == 403
    assert sandbox.requests() == []


def test_link_page_anonymous_user_is_sent_to_the_login(old_sons: Tenant) -> None:
    response = Client().post(link_url(old_sons), {"clerk_org_id": "org_1"})
    assert response["Location"].startswith("/admin/login/")


def test_link_page_without_a_csrf_token_is_refused(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    operator.http.handler.enforce_csrf_checks = True
    assert operator.link(old_sons, "org_1").status_code == 403
    assert sandbox.requests() == []


def test_link_page_with_html_in_a_name_escapes_it(operator: Staff, legacy: Callable[..., Tenant]) -> None:
    page = operator.get(link_url(legacy("<script>alert(1)</script>", slug="<b>"))).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "&lt;b&gt;</bdi>" in page
