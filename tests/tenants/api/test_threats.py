"""Attacks through the API by people who are signed in."""

from collections.abc import Callable

import pytest

from tenants.models import Membership, Tenant
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)


def test_organization_with_slug_and_name_of_a_legacy_tenant_gets_a_tenant_of_its_own(
    sandbox: SandboxControl, ada: Caller, grace: Caller, legacy: Callable[..., Tenant]
) -> None:
    victim = legacy("Old & Sons", {ada.id: "owner"}, slug="old-sons")
    taken = sandbox.organization("Old & Sons", created_by=grace.id, slug="old-sons")

    (shown,) = grace.tenants().json()

    assert (shown["clerkOrgId"], shown["id"] == victim.pk) == (taken["id"], False)
    assert grace.get(f"/tenants/{victim.pk}").status_code == 404
    assert ada.get("/tenants/slug/old-sons").json()["id"] == victim.pk
    assert list(Membership.objects.filter(tenant=victim).values_list("clerk_user_id", flat=True)) == [ada.id]
    victim.refresh_from_db()
    assert victim.clerk_org_id is None


def test_idempotency_key_of_another_user_answers_nothing_of_theirs(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    key = {"Idempotency-Key": "guessed"}
    hers = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key).json()

    own = grace.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    assert own.status_code == 201
    assert own.json()["clerkOrgId"] != hers["clerkOrgId"]
    assert [tenant["id"] for tenant in grace.tenants().json()] == [own.json()["id"]]
    assert len(sandbox.requests("POST", "/v1/organizations")) == 2
