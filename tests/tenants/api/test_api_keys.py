"""Requests of machine clients with an API key of Clerk's."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from clerk_integration.tokens.api_keys import verified_keys
from tenants.api.authentication import ClerkSessionAuthentication
from tenants.scoping.users import TenantUser
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/api/v1/tenants/me/get-tenants"


@pytest.fixture(autouse=True)
def accepted(settings: Settings) -> None:
    settings.CLERK_ACCEPT_API_KEYS = True
    verified_keys.clear()


def bearer(key: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {key['secret']}"}


def test_api_key_lists_the_tenants_of_its_user_until_it_is_revoked(
    sandbox: SandboxControl, ada: Caller, client: Client
) -> None:
    ada.create("Acme")
    key = sandbox.api_key(ada.id)

    listed = client.get(LIST, headers=bearer(key))
    sandbox.api("POST", f"/api_keys/{key['id']}/revoke", {})
    verified_keys.clear()
    refused = client.get(LIST, headers=bearer(key))

    assert [tenant["name"] for tenant in listed.json()] == ["Acme"]
    assert (refused.status_code, refused["WWW-Authenticate"]) == (401, "Bearer")
    assert refused.json()["errors"][0]["code"] == "api_key_revoked"


def test_api_key_while_clerk_is_down_is_503(sandbox: SandboxControl, ada: Caller, client: Client) -> None:
    key = sandbox.api_key(ada.id)
    sandbox.fault("POST /v1/api_keys/verify", times=9, status=503)

    response = client.get(LIST, headers=bearer(key))

    assert response.status_code == 503
    assert response.json()["errors"][0]["code"] == "clerk_unavailable"


def test_api_key_has_its_scopes_as_permissions_in_the_tenants_of_its_user_only(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    own, foreign = (caller.create("Acme").json()["id"] for caller in (ada, grace))
    key = sandbox.api_key(ada.id, scopes=["invoices:read"])

    def user(tenant_id: int) -> TenantUser:
        request = APIRequestFactory().post("/", headers={"X-Tenant-Id": str(tenant_id), **bearer(key)})
        authenticated = ClerkSessionAuthentication().authenticate(Request(request))
        assert authenticated is not None
        assert isinstance(authenticated[0], TenantUser)
        return authenticated[0]

    assert user(own).has(permission="org:invoices:read")
    assert user(own).has(role="org:admin")
    assert not user(own).has(permission="org:invoices:create")
    assert not user(foreign).has(permission="org:invoices:read")
