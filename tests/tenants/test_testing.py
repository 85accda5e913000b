"""The pytest plugin, as a project uses it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from clerk_integration.models import WebhookDelivery
from tenants.models import Membership, Tenant
from tenants.scoping import current_tenant
from tenants.scoping.context import FixedScope, set_request_scope

pytestmark = pytest.mark.django_db(transaction=True)


def test_tenant_has_the_user_as_admin_and_is_listed_with_the_token(
    client: Client, tenant: Tenant, clerk_user: dict[str, Any], session_token: Callable[..., str]
) -> None:
    [membership] = Membership.objects.filter(tenant=tenant)
    assert (membership.clerk_user_id, membership.role) == (clerk_user["id"], "org:admin")

    for user, organization in ((clerk_user, tenant), (clerk_user["id"], {"id": tenant.clerk_org_id})):
        headers = {"Authorization": f"Bearer {session_token(user, organization)}"}
        listed = client.get("/api/v1/tenants/me/get-tenants", headers=headers)
        assert [row["id"] for row in listed.json()] == [tenant.pk]


def test_session_token_with_claims_carries_them(
    client: Client, clerk_user: dict[str, Any], session_token: Callable[..., str]
) -> None:
    token = session_token(clerk_user, sts="pending")

    answer = client.get("/api/v1/tenants/me/primary-id", headers={"Authorization": f"Bearer {token}"})

    assert answer.json()["errors"][0]["code"] == "session_pending"


def test_signed_webhook_is_stored(
    client: Client, tenant: Tenant, signed_webhook: Callable[[str, Any], Any]
) -> None:
    webhook = signed_webhook("organization.updated", {"object": "organization", "id": tenant.clerk_org_id})

    assert client.post("/api/v1/webhooks/clerk", **webhook).status_code == 204

    assert WebhookDelivery.objects.get().organization_id == tenant.clerk_org_id
    assert json.loads(webhook["data"])["type"] == "organization.updated"


@pytest.mark.parametrize("order", ["first", "second"])
def test_current_tenant_of_an_earlier_test_is_left(order: str) -> None:
    assert current_tenant() is None
    set_request_scope(FixedScope(Tenant(pk=1)))
