"""Callers of the REST API, and legacy tenants."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.models import Membership, Tenant
from tests.sandbox import SandboxControl

Json = dict[str, Any]

OLD_TENANTS = 40
OLD_MEMBERS = ("owner", "admin", "member")


class Caller:
    """A Clerk user who calls the REST API, each time with a new session token."""

    def __init__(self, sandbox: SandboxControl, user_id: str) -> None:
        self.id = user_id
        self._sandbox = sandbox
        self._http = Client(raise_request_exception=False)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        bearer = {"Authorization": f"Bearer {self._sandbox.token(self.id)}"}
        return self._http.generic(
            method,
            f"/api/v1{path}",
            data=json.dumps({} if body is None else body),
            content_type="application/json",
            headers=bearer | headers,
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.request("GET", path, **headers)

    def create(self, name: Any = "Acme", **fields: Any) -> Any:
        return self.request("POST", "/tenants/create", {"name": name, **fields})

    def tenants(self, query: str = "") -> Any:
        return self.get(f"/tenants/me/get-tenants{query}")


@pytest.fixture
def caller(sandbox: SandboxControl) -> Callable[[], Caller]:
    """Return a function that makes a new Clerk user who calls the API."""
    return lambda: Caller(sandbox, sandbox.user()["id"])


@pytest.fixture
def ada(caller: Callable[[], Caller]) -> Caller:
    return caller()


@pytest.fixture
def grace(caller: Callable[[], Caller]) -> Caller:
    return caller()


@pytest.fixture
def legacy(db: None) -> Callable[..., Tenant]:
    """Return a function that makes a legacy tenant with members given as {user id: role}."""

    def make(name: str = "Old & Sons", members: dict[str, str] | None = None, **columns: Any) -> Tenant:
        tenant = Tenant.objects.create(name=name, **columns)
        for user_id, role in (members or {}).items():
            Membership.objects.create(tenant=tenant, clerk_user_id=user_id, role=role)
        return tenant

    return make


@pytest.fixture
def old_tenants(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], request: pytest.FixtureRequest
) -> list[Tenant]:
    """Legacy tenants with three members each: OLD_TENANTS of them, or the number that the test passes."""
    return [
        legacy(f"Tenant {number}", {str(sandbox.user()["id"]): role for role in OLD_MEMBERS})
        for number in range(getattr(request, "param", OLD_TENANTS))
    ]
