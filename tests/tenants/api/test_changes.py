"""The endpoints that change a tenant, against the local Clerk."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tenants.mirror import deletions, leases
from tenants.models import Membership, Tenant, Tombstone
from tests.sandbox import SandboxControl
from tests.tenants.api.test_views import error
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(ada: Caller) -> Tenant:
    return Tenant.objects.get(pk=ada.create("Acme", slug="acme").json()["id"])


class Staff:
    """A staff user who calls the API with Django's session."""

    def __init__(self, *permissions: str) -> None:
        self.user = User.objects.create_user("grace", is_staff=True)
        names = [name.removeprefix("tenants.") for name in permissions]
        self.user.user_permissions.set(Permission.objects.filter(codename__in=names))
        self._http = Client()
        self._http.force_login(self.user)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps({} if body is None else body)
        return self._http.generic(method, f"/api/v1{path}", data=data, content_type="application/json")


def state(tenant: Tenant) -> tuple[str, str | None, str, str]:
    tenant.refresh_from_db()
    return tenant.name, tenant.slug, tenant.status, tenant.suspension_reason


def test_change_name_and_slug_by_an_admin_renames_in_clerk(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    response = ada.request("PATCH", f"/tenants/{tenant.pk}", {"name": "Acme Ltd", "slug": "acme-ltd"})

    assert response.status_code == 200
    body = response.json()
    assert (body["name"], body["slug"], body["role"], body["isPrimary"]) == (
        "Acme Ltd",
        "acme-ltd",
        "org:admin",
        True,
    )
    organization = sandbox.api("GET", f"/organizations/{tenant.clerk_org_id}")
    assert (organization["name"], organization["slug"]) == ("Acme Ltd", "acme-ltd")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": ""}, (400, "blank", "name")),
        ({"name": 7}, (400, "invalid", "name")),
        ({"name": None}, (400, "null", "name")),
        ({"name": "<b>Acme</b>"}, (400, "invalid_name", "name")),
        ({"slug": None}, (400, "null", "slug")),
        ({"slug": "Not A Slug"}, (400, "invalid_slug", "slug")),
        ({"status": "closed"}, (400, "invalid_choice", "status")),
        ({"status": ["active"]}, (400, "invalid_choice", "status")),
        ({"suspensionReason": "unpaid"}, (400, "invalid", "suspensionReason")),
        ({"status": "active", "suspensionReason": "unpaid"}, (400, "invalid", "suspensionReason")),
        ({"status": "suspended", "suspensionReason": 5}, (400, "invalid", "suspensionReason")),
        ([], (400, "invalid", "non_field_errors")),
        ({"status": "suspended"}, (403, "permission_denied", None)),
        ({"status": "active"}, (403, "permission_denied", None)),
        ({"name": "Other", "status": "deactivated"}, (403, "permission_denied", None)),
    ],
)
def test_change_by_an_admin_is_refused_and_changes_nothing(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant, body: Any, expected: Any
) -> None:
    assert error(ada.request("PATCH", f"/tenants/{tenant.pk}", body)) == expected

    assert state(tenant) == ("Acme", "acme", "active", "")
    assert sandbox.requests("PATCH") == []


def test_change_without_fields_changes_nothing(sandbox: SandboxControl, ada: Caller, tenant: Tenant) -> None:
    assert ada.request("PATCH", f"/tenants/{tenant.pk}").status_code == 200
    assert sandbox.requests("PATCH") == []


def test_change_to_a_taken_slug_is_refused_on_the_slug(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    sandbox.organization("Another company", slug="taken")

    response = ada.request("PATCH", f"/tenants/{tenant.pk}", {"slug": "taken"})

    assert (error(response)[0], error(response)[2]) == (400, "slug")


@pytest.mark.parametrize(
    ("fault", "name", "text"),
    [
        ({"status": 503}, "Acme", "may have made the change"),
        ({"dropAfterCommit": True}, "Acme Ltd", "may have made the change"),
        ({"rateLimit": 7}, "Acme", "Nothing was done."),
        ({"status": 401}, "Acme", "Nothing was done."),
    ],
)
def test_change_while_clerk_fails_says_what_was_done(  # noqa: PLR0917  (a table)
    sandbox: SandboxControl, ada: Caller, tenant: Tenant, fault: Any, name: str, text: str
) -> None:
    sandbox.fault("PATCH /v1/organizations/*", **fault)

    response = ada.request("PATCH", f"/tenants/{tenant.pk}", {"name": "Acme Ltd"})

    assert response.status_code == (500 if fault.get("status") == 401 else 503)
    assert text in response.json()["errors"][0]["detail"]
    assert state(tenant)[0] == "Acme"
    assert ada.request("POST", f"/tenants/{tenant.pk}/sync").json()["name"] == name


def test_change_reply_lost_is_repaired_by_the_next_read_of_the_caller(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    ada.tenants()
    sandbox.fault("PATCH /v1/organizations/*", dropAfterCommit=True)

    assert ada.request("PATCH", f"/tenants/{tenant.pk}", {"name": "Acme Ltd"}).status_code == 503

    assert ada.get(f"/tenants/{tenant.pk}").json()["name"] == "Acme Ltd"


def test_change_by_staff_suspends_with_a_reason_and_reactivates(ada: Caller, tenant: Tenant) -> None:
    staff = Staff("tenants.view_tenant", "tenants.change_tenant_status", "tenants.change_tenant")
    path = f"/tenants/{tenant.pk}"

    suspended = staff.request("PATCH", path, {"status": "suspended", "suspensionReason": "unpaid"})
    assert (suspended.status_code, suspended.json()["suspensionReason"]) == (200, "unpaid")
    assert error(staff.request("PATCH", path, {"name": "Other"})) == (409, "tenant_inactive", None)
    assert error(ada.request("PATCH", path, {"name": "Other"})) == (409, "tenant_inactive", None)
    assert error(ada.request("PATCH", f"{path}/deactivate")) == (409, "tenant_inactive", None)

    active = staff.request("PATCH", path, {"status": "active", "name": "Acme Ltd"})
    assert (active.status_code, state(tenant)) == (200, ("Acme Ltd", "acme", "active", ""))
    both = staff.request("PATCH", path, {"status": "suspended", "slug": "acme-ltd"})
    assert (both.status_code, state(tenant)) == (200, ("Acme Ltd", "acme-ltd", "suspended", ""))


@pytest.mark.parametrize(
    ("permission", "body", "status"),
    [
        ("tenants.change_tenant", {"name": "Other"}, 200),
        ("tenants.change_tenant", {"status": "deactivated"}, 403),
        ("tenants.change_tenant", {"name": "Other", "status": "deactivated"}, 403),
        ("tenants.change_tenant_status", {"name": "Other"}, 403),
        ("tenants.change_tenant_status", {"status": "deactivated"}, 200),
    ],
)
def test_change_by_staff_needs_the_permission_of_each_field(
    tenant: Tenant, permission: str, body: Any, status: int
) -> None:
    staff = Staff("tenants.view_tenant", permission)

    assert staff.request("PATCH", f"/tenants/{tenant.pk}", body).status_code == status


def test_deactivate_by_an_admin_closes_the_tenant_until_staff_reactivate_it(
    sandbox: SandboxControl, ada: Caller, caller: Callable[[], Caller], tenant: Tenant
) -> None:
    member, path = caller(), f"/tenants/{tenant.pk}"
    sandbox.membership(str(tenant.clerk_org_id), member.id)
    assert [one["id"] for one in member.tenants().json()] == [tenant.pk]

    for _ in range(2):
        response = ada.request("PATCH", f"{path}/deactivate")
        assert (response.status_code, response.json()["status"]) == (200, "deactivated")

    assert (member.get(path).status_code, ada.get(path).status_code) == (404, 200)
    assert error(ada.request("PATCH", f"{path}/set-primary")) == (409, "tenant_inactive", None)
    organization = sandbox.api("GET", f"/organizations/{tenant.clerk_org_id}")
    assert organization["name"] == "Acme"


def test_sync_by_an_admin_fetches_the_organization_and_its_members(
    sandbox: SandboxControl, ada: Caller, grace: Caller, tenant: Tenant
) -> None:
    sandbox.api("PATCH", f"/organizations/{tenant.clerk_org_id}", {"name": "Acme Ltd"})
    sandbox.settings(customRoles={"org:billing": []})
    sandbox.membership(str(tenant.clerk_org_id), grace.id, "org:billing")

    response = ada.request("POST", f"/tenants/{tenant.pk}/sync")

    assert (response.status_code, response.json()["name"]) == (200, "Acme Ltd")
    assert Membership.objects.get(clerk_user_id=grace.id).role == "org:billing"


def test_sync_organization_deleted_in_clerk_answers_409_and_records_it(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    ada.tenants()
    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")

    response = ada.request("POST", f"/tenants/{tenant.pk}/sync")

    assert error(response) == (409, "organization_deleted", None)
    assert state(tenant)[2] == "deactivated"


def test_sync_legacy_tenant_answers_409(ada: Caller, legacy: Callable[..., Tenant]) -> None:
    tenant = legacy("Old", {ada.id: "owner"})

    assert error(ada.request("POST", f"/tenants/{tenant.pk}/sync")) == (409, "not_linked", None)
    assert ada.request("PATCH", f"/tenants/{tenant.pk}", {"name": "Older"}).json()["name"] == "Older"


def test_delete_by_staff_needs_the_organization_gone_or_deletes_it(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    staff, path = Staff("tenants.view_tenant", "tenants.delete_tenant"), f"/tenants/{tenant.pk}"

    assert error(ada.request("DELETE", path)) == (403, "permission_denied", None)
    assert error(staff.request("DELETE", path)) == (409, "organization_exists", None)
    assert staff.request("DELETE", f"{path}?deleteClerkOrganization=maybe").status_code == 400
    response = staff.request("DELETE", f"{path}?deleteClerkOrganization=true")

    assert (response.status_code, response.content) == (204, b"")
    assert not Tenant.objects.exists()
    assert sandbox.api("GET", "/organizations")["total_count"] == 0
    assert error(staff.request("DELETE", path))[0] == 404
    assert Tombstone.objects.filter(clerk_id=tenant.clerk_org_id).exists()


def test_delete_tenant_recorded_as_deleted_asks_nothing(sandbox: SandboxControl, tenant: Tenant) -> None:
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=Tombstone.Source.EVENT)
    sandbox.clear_requests()

    response = Staff("tenants.view_tenant", "tenants.delete_tenant").request(
        "DELETE", f"/tenants/{tenant.pk}"
    )

    assert (response.status_code, sandbox.requests()) == (204, [])


def test_create_without_make_primary_leaves_the_primary(ada: Caller) -> None:
    first = ada.create("First").json()
    key = {"Idempotency-Key": "second"}
    body = {"name": "Second", "makePrimary": False}

    answers = [ada.request("POST", "/tenants/create", body, **key) for _ in range(2)]
    assert [(answer.status_code, answer.json()["isPrimary"]) for answer in answers] == [(201, False)] * 2
    assert ada.get("/tenants/me/primary-id").json() == {"tenantId": first["id"]}
    reused = ada.request("POST", "/tenants/create", {**body, "makePrimary": True}, **key)
    assert error(reused) == (409, "idempotency_key_reused", None)


@pytest.mark.parametrize("value", ["false", 0, None])
def test_create_make_primary_that_is_no_boolean_is_refused(ada: Caller, value: Any) -> None:
    assert error(ada.create("Acme", makePrimary=value))[2] == "makePrimary"


def test_history_lists_changes_newest_first_with_source_and_actor(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    path = f"/tenants/{tenant.pk}"
    ada.request("PATCH", path, {"name": "Acme Ltd"})
    staff = Staff("tenants.view_tenant", "tenants.view_tenanthistory", "tenants.change_tenant_status")
    staff.request("PATCH", path, {"status": "suspended", "suspensionReason": "unpaid"})

    page = ada.get(f"{path}/history?pageSize=2").json()

    assert (page["count"], page["next"] is not None) == (5, True)
    first, second = page["results"]
    assert first.pop("at") > second.pop("at")
    assert first == {
        "source": "staff",
        "actor": "grace",
        "action": "suspended",
        "clerkUserId": None,
        "changes": {"status": ["active", "suspended"], "suspensionReason": ["", "unpaid"]},
    }
    assert (second["source"], second["actor"], second["changes"]) == (
        "api",
        ada.id,
        {"name": ["Acme", "Acme Ltd"]},
    )
    oldest = staff.request("GET", f"{path}/history?page=2&pageSize=3").json()["results"]
    assert [(one["action"], one["clerkUserId"]) for one in oldest] == [
        ("member_added", ada.id),
        ("created", None),
    ]


def test_history_of_changes_that_a_sync_found_has_no_actor(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    sandbox.api("PATCH", f"/organizations/{tenant.clerk_org_id}", {"name": "Acme Ltd"})
    leases.expire(ada.id)

    [newest, *_] = ada.get(f"/tenants/{tenant.pk}/history").json()["results"]

    assert (newest["source"], newest["actor"], newest["action"]) == ("sync", None, "renamed")


def test_change_by_an_admin_who_was_demoted_or_removed_in_clerk_is_refused(
    sandbox: SandboxControl, ada: Caller, grace: Caller, tenant: Tenant
) -> None:
    path, membership = f"/tenants/{tenant.pk}", f"/organizations/{tenant.clerk_org_id}/memberships/{grace.id}"
    sandbox.membership(str(tenant.clerk_org_id), grace.id, "org:admin")
    assert grace.request("PATCH", path, {"name": "Graceful"}).status_code == 200

    sandbox.api("PATCH", membership, {"role": "org:member"})
    leases.expire(grace.id)
    assert error(grace.request("PATCH", path, {"name": "Mine"})) == (403, "permission_denied", None)
    sandbox.api("DELETE", membership)
    leases.expire(grace.id)
    assert error(grace.request("PATCH", path, {"name": "Mine"}))[0] == 404

    assert state(tenant)[0] == "Graceful"
