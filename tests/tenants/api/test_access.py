"""Who may call which endpoint: every route, method and kind of caller, with the expected status."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from pytest_django import Settings

from tenants.api.urls import urlpatterns
from tenants.mirror import leases
from tenants.models import Tenant
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db

CALLERS = (
    "anonymous",
    "forged token",
    "stranger",
    "member",
    "custom role",
    "org admin",
    "admin of the suspended tenant",
    "removed admin",
    "API key of the admin",
    "API key where none is accepted",
    "Django user who is not staff",
    "staff without permission",
    "staff who may only view",
    "staff with permission",
)

# The expected status, in the order of CALLERS. A removed admin still has a token that names the admin's role.
# The rows that change most come last: they are called one after the other.
READ = (401, 401, 404, 200, 200, 200, 200, 404, 200, 401, 401, 404, 200, 200)
ACCESS: dict[str, tuple[int, ...]] = {
    "POST tenants/create": (401, 401, 201, 201, 201, 201, 201, 201, 201, 401, 401, 403, 403, 403),
    "GET tenants/me/get-tenants": (401, 401, 200, 200, 200, 200, 200, 200, 200, 401, 401, 403, 403, 403),
    "GET tenants/me/primary-id": (401, 401, 200, 200, 200, 200, 200, 200, 200, 401, 401, 403, 403, 403),
    "GET tenants": (401, 401, 200, 200, 200, 200, 200, 200, 200, 401, 401, 403, 200, 200),
    "GET tenants/organization/<str:clerk_org_id>": READ,
    "GET tenants/slug/<str:slug>": READ,
    "GET tenants/<int:pk>": READ,
    "GET tenants/<int:pk>/members": (401, 401, 404, 200, 200, 200, 200, 404, 200, 401, 401, 404, 403, 200),
    "GET tenants/<int:pk>/history": (401, 401, 404, 403, 403, 200, 200, 404, 200, 401, 401, 404, 403, 200),
    "PATCH tenants/<int:pk>/set-primary": (
        401,
        401,
        404,
        200,
        200,
        200,
        409,
        404,
        200,
        401,
        401,
        403,
        403,
        403,
    ),
    "POST tenants/<int:pk>/sync": (401, 401, 404, 403, 403, 200, 200, 404, 200, 401, 401, 404, 403, 200),
    "PATCH tenants/<int:pk>": (401, 401, 404, 403, 403, 200, 409, 404, 200, 401, 401, 404, 403, 200),
    "PATCH tenants/<int:pk>/deactivate": (
        401,
        401,
        404,
        403,
        403,
        200,
        409,
        404,
        200,
        401,
        401,
        404,
        403,
        200,
    ),
    "DELETE tenants/<int:pk>": (401, 401, 404, 403, 403, 403, 403, 404, 403, 401, 401, 404, 403, 204),
}


def test_access_table_has_a_row_for_each_endpoint() -> None:
    endpoints = {
        f"{method.upper()} {pattern.pattern}"
        for pattern in urlpatterns
        for method in pattern.callback.actions
        if method != "head"  # added by the first request to the view; the same as get
    }
    assert endpoints == set(ACCESS)
    assert {len(row) for row in ACCESS.values()} == {len(CALLERS)}


@pytest.fixture
def tenant(sandbox: SandboxControl, ada: Caller) -> Tenant:
    """The tenant that all callers call about."""
    return Tenant.objects.get(pk=ada.create("Acme", slug="acme").json()["id"])


@pytest.fixture
def token_of(
    sandbox: SandboxControl, ada: Caller, grace: Caller, tenant: Tenant, settings: Settings
) -> dict[str, Callable[[], str]]:
    """Functions that make a kind of caller and return a session token; a Django session needs none."""

    def member(role: str) -> str:
        sandbox.settings(customRoles={"org:billing": ["org:sys_profile:manage"]})
        sandbox.membership(str(tenant.clerk_org_id), grace.id, role)
        return sandbox.token(grace.id, tenant.clerk_org_id)

    def suspended() -> str:
        Tenant.objects.filter(pk=tenant.pk).update(status="suspended")
        return sandbox.token(ada.id, tenant.clerk_org_id)

    def removed() -> str:
        token = member("org:admin")
        grace.tenants()
        sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}/memberships/{grace.id}")
        leases.expire(grace.id)
        return token

    def api_key() -> str:
        settings.CLERK_ACCEPT_API_KEYS = True
        return str(sandbox.api_key(ada.id)["secret"])

    return {
        "API key of the admin": api_key,
        "API key where none is accepted": lambda: str(sandbox.api_key(ada.id)["secret"]),
        "forged token": lambda: sandbox.token(ada.id, signature="forged"),
        "stranger": lambda: sandbox.token(grace.id),
        "member": lambda: member("org:member"),
        "custom role": lambda: member("org:billing"),
        "org admin": lambda: sandbox.token(ada.id, tenant.clerk_org_id),
        "admin of the suspended tenant": suspended,
        "removed admin": removed,
    }


def session_of(kind: str) -> Client:
    """Return a client with the Django session of a user, or without one for an anonymous caller."""
    client = Client()
    if kind != "anonymous":
        user = User.objects.create_user("alan", is_staff=kind.startswith("staff"))
        if kind not in ("staff without permission", "staff who may only view"):
            user.groups.set(Group.objects.filter(name="Tenant administrators"))
        if kind == "staff who may only view":
            user.user_permissions.set(Permission.objects.filter(codename="view_tenant"))
        client.force_login(user)
    return client


@pytest.mark.parametrize("kind", CALLERS)
def test_access_of_each_caller_is_as_the_table_says(
    token_of: dict[str, Callable[[], str]], tenant: Tenant, kind: str
) -> None:
    token = token_of[kind]() if kind in token_of else None
    client = Client() if token else session_of(kind)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    tenant.refresh_from_db()
    answers = {}

    for endpoint in ACCESS:
        Tenant.objects.filter(pk=tenant.pk).update(status=tenant.status)
        answers[endpoint] = call(client, headers, endpoint, tenant).status_code

    assert answers == {endpoint: row[CALLERS.index(kind)] for endpoint, row in ACCESS.items()}


def call(client: Client, headers: dict[str, str], endpoint: str, tenant: Tenant) -> Any:
    method, route = endpoint.split()
    path = (
        route.replace("<int:pk>", str(tenant.pk))
        .replace("<str:clerk_org_id>", str(tenant.clerk_org_id))
        .replace("<str:slug>", "acme")
    )
    query = "?deleteClerkOrganization=true" if method == "DELETE" else ""
    return client.generic(
        method,
        f"/api/v1/{path}{query}",
        data=json.dumps({"name": "Acme Ltd"}),
        content_type="application/json",
        headers=headers,
    )
