"""Roles and permissions in the tenant of a request."""

from collections.abc import Callable
from typing import Any

import pytest

from tenants.models import Membership, Tenant
from tests.tenants.scoping.conftest import Member, invoice_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.example_app.urls"),
    pytest.mark.usefixtures("example_app"),
]


def claims(ada: Member, **organization: Any) -> dict[str, Any]:
    """Return the claims of a token whose active organization is Ada's."""
    return {"o": {"id": ada.organization_id, "slg": "acme", **organization}}


@pytest.fixture
def invoiced(mirrored: Tenant, with_invoices: Callable[..., Tenant]) -> Tenant:
    return with_invoices(mirrored, "A-1")


@pytest.mark.parametrize(
    ("in_token", "stored", "answers"),
    [
        ("admin", "org:admin", (202, 202)),
        ("member", "org:member", (403, 403)),
        ("admin", "org:member", (202, 403)),  # demoted since: writes ask the stored membership
        ("member", "org:admin", (403, 202)),  # promoted since
        ("administrator", "org:administrator", (403, 403)),
        ("owner", "org:member", (403, 403)),
        (None, "org:member", (403, 403)),
        (None, "org:admin", (202, 202)),
        ("member", "admin", (403, 403)),  # a role from before Clerk, in a linked tenant
    ],
)
def test_role_is_the_token_s_for_reads_and_the_stored_one_for_writes(
    ada: Member, mirrored: Tenant, in_token: str | None, stored: str, answers: tuple[int, int]
) -> None:
    Membership.objects.filter(clerk_user_id=ada.id).update(role=stored)
    headers = ada.headers(claims=claims(ada, rol=in_token))

    calls = (ada.client.get, ada.client.post)
    assert tuple(call("/close?prefix=A", headers=headers).status_code for call in calls) == answers


@pytest.mark.parametrize(("role", "status"), [("owner", 202), ("admin", 202), ("member", 403)])
def test_role_in_a_legacy_tenant_is_the_stored_one(
    ada: Member, mirrored: Tenant, role: str, status: int
) -> None:
    legacy = Tenant.objects.create(name="Old & Sons")
    Membership.objects.create(tenant=legacy, clerk_user_id=ada.id, role=role)

    for call in (ada.client.get, ada.client.post):
        assert call("/close?prefix=A", headers=ada.headers(tenant_id=legacy.pk)).status_code == status


@pytest.mark.parametrize(
    ("granted", "stored", "status"),
    [
        ("invoices:create", "org:admin", 201),
        ("invoices:read", "org:admin", 403),
        ("", "org:admin", 403),
        ("invoices:create", "org:member", 403),  # the permissions of a role that was lost
    ],
)
def test_permission_is_the_token_s_if_its_role_is_still_held(
    ada: Member, invoiced: Tenant, granted: str, stored: str, status: int
) -> None:
    Membership.objects.filter(clerk_user_id=ada.id).update(role=stored)
    feature, _, permission = granted.partition(":")
    token = claims(ada, rol="admin", per=permission, fpm="1") | {"fea": f"o:{feature}"}
    body = {"number": "A-2", "customer": invoice_of(invoiced).customer_id}

    answer = ada.client.post("/api/v1/invoices", body, "application/json", headers=ada.headers(claims=token))

    assert answer.status_code == status


def test_permission_of_the_active_organization_is_none_in_another_tenant(
    ada: Member, mirrored: Tenant, with_invoices: Any
) -> None:
    legacy = with_invoices(Tenant.objects.create(name="Old & Sons"), "O-1")
    Membership.objects.create(tenant=legacy, clerk_user_id=ada.id, role="owner")
    token = claims(ada, rol="admin", per="create", fpm="1") | {"fea": "o:invoices"}
    body = {"number": "O-2", "customer": invoice_of(legacy).customer_id}

    answer = ada.client.post(
        "/api/v1/invoices",
        body,
        "application/json",
        headers=ada.headers(claims=token, tenant_id=legacy.pk),
    )

    assert answer.status_code == 403


@pytest.mark.parametrize(("stored", "status"), [("org:admin", 204), ("org:member", 403)])
def test_is_tenant_admin_asks_the_stored_membership(
    ada: Member, mirrored: Tenant, with_invoices: Any, stored: str, status: int
) -> None:
    with_invoices(mirrored, "A-1")
    Membership.objects.filter(clerk_user_id=ada.id).update(role=stored)
    path = f"/api/v1/invoices/{invoice_of(mirrored).pk}"

    assert ada.client.delete(path, headers=ada.headers()).status_code == status
