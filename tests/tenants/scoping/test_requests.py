"""The tenant of a web request: by token, by header, just in time, and where it is required."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.db.models.functions import Now
from django.test import AsyncClient, Client
from pytest_django import Settings

from tenants.models import Membership, Tenant, UserSync
from tenants.scoping import current_tenant, resolution
from tests.tenants.scoping.conftest import Member
from tests.webhooks import statements

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.example_app.urls"),
    pytest.mark.usefixtures("example_app"),
]

PATHS = ["/api/v1/invoices", "/numbers"]


@pytest.mark.parametrize("path", PATHS)
def test_request_of_an_organization_that_is_not_mirrored_is_served(ada: Member, path: str) -> None:
    assert ada.get(path).status_code == 200

    tenant = Tenant.objects.get(clerk_org_id=ada.organization_id)
    membership = Membership.objects.get(tenant=tenant, clerk_user_id=ada.id)
    assert (tenant.name, membership.clerk_user_id, membership.role) == ("Acme", ada.id, "org:admin")
    assert current_tenant() is None


def test_request_just_in_time_stores_what_clerk_says_and_not_the_claims(ada: Member) -> None:
    claims = {"o": {"id": ada.organization_id, "rol": "owner", "slg": "forged-slug", "per": "all"}}

    assert ada.get("/numbers", claims=claims).json()["tenant"] == "Acme"

    membership = Membership.objects.select_related("tenant").get(clerk_user_id=ada.id)
    assert (membership.role, membership.tenant.slug) == ("org:admin", "acme")


def test_request_just_in_time_after_a_fresh_listing_asks_clerk_again(ada: Member) -> None:
    ada.client.get("/api/v1/tenants/me/get-tenants", headers=ada.headers(None))
    joined = ada.sandbox.organization("Joined since", created_by=ada.id)["id"]

    assert ada.get("/numbers", joined).json()["tenant"] == "Joined since"


def test_requests_just_in_time_at_once_list_the_user_once(ada: Member) -> None:
    headers = ada.headers()
    ada.sandbox.clear_requests()
    ada.sandbox.settings(latencyMs=200)

    def get(_: int) -> int:
        try:
            return Client().get("/numbers", headers=headers).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(get, range(4))) == {200}
    assert len(ada.sandbox.requests()) == 1


def test_request_of_an_unknown_organization_asks_clerk_once_and_is_404(ada: Member) -> None:
    foreign = Member(ada.sandbox).organization_id
    ada.sandbox.clear_requests()

    claims = {"o": {"id": foreign, "rol": "admin", "slg": "acme"}}
    assert [ada.get(path, claims=claims).status_code for path in PATHS * 2] == [404] * 4

    assert len(ada.sandbox.requests()) == 1
    assert not Tenant.objects.filter(clerk_org_id=foreign).exists()


def test_request_just_in_time_while_clerk_fails_is_503_and_served_later(ada: Member) -> None:
    ada.sandbox.fault("GET /v1/users/*", status=500, times=10)
    answers = [ada.get(path) for path in PATHS]
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in answers] == [(503, "5")] * 2
    # A view that needs no tenant is answered.
    assert ada.get("/api/v1/tenants/me/get-tenants").status_code == 200


def test_request_of_a_known_tenant_takes_one_statement_and_none_from_the_cache(
    ada: Member, mirrored: Tenant
) -> None:
    with statements() as first:
        assert ada.get("/numbers").status_code == 200
    with statements() as cached:
        assert ada.get("/numbers").status_code == 200
    with statements() as by_header:
        assert ada.get("/numbers", tenant_id=mirrored.pk).status_code == 200
    with statements() as writing:
        assert ada.client.post("/close?prefix=A", headers=ada.headers()).status_code == 202

    assert (len(first), len(cached), len(by_header), len(writing)) == (2, 1, 2, 1)
    assert ada.sandbox.requests() == []


@pytest.mark.parametrize("status", [Tenant.Status.SUSPENDED, Tenant.Status.DEACTIVATED])
def test_request_of_an_inactive_tenant_is_404_without_asking_clerk(
    ada: Member, mirrored: Tenant, status: str
) -> None:
    Tenant.objects.filter(pk=mirrored.pk).update(status=status)

    assert [ada.get(path).status_code for path in PATHS] == [404, 404]
    assert [ada.get(path, tenant_id=mirrored.pk).status_code for path in PATHS] == [404, 404]
    assert ada.sandbox.requests() == []


def test_request_of_a_removed_member_is_404_when_the_cache_has_expired(ada: Member, mirrored: Tenant) -> None:
    assert ada.get("/numbers").status_code == 200
    token = ada.headers()
    ada.leave()
    Membership.objects.filter(clerk_user_id=ada.id).update(is_active=False)

    assert ada.client.get("/numbers", headers=token).status_code == 200
    assert ada.client.post("/close?prefix=A", headers=token).status_code == 404
    resolution.forget_memberships()
    assert ada.client.get("/numbers", headers=token).status_code == 404
    assert ada.client.get("/numbers", headers=token | {"X-Tenant-Id": str(mirrored.pk)}).status_code == 404


def test_request_by_header_of_a_member_removed_in_clerk_is_404_when_the_mirror_is_old(
    ada: Member, mirrored: Tenant, settings: Settings
) -> None:
    assert ada.get("/numbers", None, mirrored.pk).status_code == 200
    ada.leave()
    assert ada.get("/numbers", None, mirrored.pk).status_code == 200

    settings.CLERK_SYNC_MAX_AGE_SECONDS = 0

    assert ada.get("/numbers", None, mirrored.pk).status_code == 404


def test_request_by_header_of_a_member_removed_in_clerk_is_404_when_the_clock_was_set_back(
    ada: Member, mirrored: Tenant
) -> None:
    assert ada.get("/numbers", None, mirrored.pk).status_code == 200
    ada.leave()
    UserSync.objects.update(synced_at=Now() + timedelta(hours=1))

    assert ada.get("/numbers", None, mirrored.pk).status_code == 404


def test_request_by_header_reaches_a_legacy_tenant_and_any_of_the_user_s(
    ada: Member, mirrored: Tenant
) -> None:
    legacy = Tenant.objects.create(name="Old & Sons")
    Membership.objects.create(tenant=legacy, clerk_user_id=ada.id, role="owner")

    for active in (ada.organization_id, None):
        assert ada.get("/numbers", active, legacy.pk).json()["tenant"] == "Old & Sons"
        assert ada.get("/numbers", active, mirrored.pk).json()["tenant"] == "Acme"


@pytest.mark.parametrize(
    "value", ["", "x", "-1", "0", "1.0", "²", "9" * 19, "9" * 30, "9" * 5000, "123456789"]
)
def test_request_with_a_header_that_names_no_tenant_of_the_user_is_404(
    ada: Member, mirrored: Tenant, value: str
) -> None:
    assert [ada.get(path, tenant_id=value).status_code for path in PATHS] == [404, 404]


def test_request_without_a_tenant_is_404_with_the_header_that_names_one(
    ada: Member, mirrored: Tenant
) -> None:
    foreign = Tenant.objects.create(name="Foreign")

    answers = [ada.get("/api/v1/invoices", None, value) for value in (None, foreign.pk, foreign.pk + 1)]

    details = {answer.json()["errors"][0]["detail"] for answer in answers}
    assert len(details) == 1
    assert "X-Tenant-Id" in details.pop()


def test_request_without_an_active_organization_is_404_and_never_guessed(
    ada: Member, mirrored: Tenant
) -> None:
    assert [ada.get(path, None).status_code for path in PATHS] == [404, 404]


@pytest.mark.parametrize("variant", [{"signature": "forged"}, {"expiresIn": -60}])
def test_request_without_a_valid_token_is_401(ada: Member, mirrored: Tenant, variant: dict[str, Any]) -> None:
    for answer in (ada.get(PATHS[0], **variant), ada.get(PATHS[1], **variant), Client().get(PATHS[1])):
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_async_view_and_stream_work_for_the_tenant(
    ada: Member, mirrored: Tenant, with_invoices: Callable[..., Tenant]
) -> None:
    with_invoices(mirrored, "A-1", "A-2")
    with_invoices(Tenant.objects.create(name="Globex"), "G-1")

    async def get() -> Any:
        answer = await AsyncClient().get("/unpaid", headers=ada.headers())
        await sync_to_async(connections.close_all)()
        return answer

    assert asyncio.run(get()).json() == {"tenant": "Acme", "numbers": ["A-1", "A-2"]}
    assert ada.get("/unpaid").json()["numbers"] == ["A-1", "A-2"]
    exported = ada.get("/export")
    assert b"".join(exported.streaming_content) == b"A-1\nA-2\n"
    assert current_tenant() is None


@pytest.fixture
def atomic_requests() -> Iterator[None]:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.usefixtures("atomic_requests")
@pytest.mark.parametrize("path", PATHS)
def test_request_with_atomic_requests_is_served_just_in_time(ada: Member, path: str) -> None:
    assert ada.get(path).status_code == 200


def test_request_of_a_tenant_that_was_looked_up_a_while_ago_asks_the_database(
    ada: Member, mirrored: Tenant, settings: Settings
) -> None:
    settings.CLERK_SYNC_MAX_AGE_SECONDS = 0.05
    ada.get("/numbers")
    Tenant.objects.filter(pk=mirrored.pk).update(name="Renamed")
    time.sleep(0.06)

    assert ada.get("/numbers").json()["tenant"] == "Renamed"
