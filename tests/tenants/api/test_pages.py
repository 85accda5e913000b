"""Lists that are answered in pages: all visible tenants, and the members of a tenant."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client

from tenants.models import Membership, Tenant
from tests.tenants.api.test_views import DETAIL_FIELDS, error
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Client:
    """A client with the session of a staff user who may see tenants and memberships."""
    user = User.objects.create_user("staff", is_staff=True)
    wanted = Permission.objects.filter(codename__in=["view_tenant", "view_membership"])
    user.user_permissions.add(*wanted)
    client.force_login(user)
    return client


def names(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [tenant["name"] for tenant in response.json()["results"]]


def test_tenants_page_shows_members_their_own_and_staff_all(
    ada: Caller, staff: Client, legacy: Callable[..., Tenant]
) -> None:
    own = legacy("Own", {ada.id: "member"})
    legacy("Closed", {ada.id: "member"}, status="suspended")
    legacy("Administered", {ada.id: "owner"}, status="suspended")
    legacy("Other", {"user_other": "owner"})

    page = ada.get("/tenants").json()

    assert [tenant["name"] for tenant in page["results"]] == ["Own", "Administered"]
    assert (page["count"], page["next"], page["previous"]) == (2, None, None)
    assert page["results"][0] == ada.get(f"/tenants/{own.pk}").json()
    everything = staff.get("/api/v1/tenants").json()
    assert [tenant["name"] for tenant in everything["results"]] == ["Own", "Closed", "Administered", "Other"]
    assert set(everything["results"][0]) == DETAIL_FIELDS
    assert {(tenant["role"], tenant["isPrimary"]) for tenant in everything["results"]} == {(None, False)}


def test_tenants_page_by_staff_without_the_permission_is_403(client: Client, db: None) -> None:
    client.force_login(User.objects.create_user("staff", is_staff=True))

    assert error(client.get("/api/v1/tenants"))[:2] == (403, "permission_denied")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=suspended", ["Beta"]),
        ("linked=true", ["Beta"]),
        ("linked=false", ["Acme Industries", "Zoë & Søns (Oslo)"]),
        ("clerkOrgId=org_2", ["Beta"]),
        ("clerkOrgId=org_3", []),
        ("status=active&search=acme", ["Acme Industries"]),
        ("ordering=-id", ["Zoë & Søns (Oslo)", "Beta", "Acme Industries"]),
        ("ordering=-name", ["Zoë & Søns (Oslo)", "Beta", "Acme Industries"]),
        ("ordering=updatedAt", ["Acme Industries", "Beta", "Zoë & Søns (Oslo)"]),
        ("search=", ["Acme Industries", "Beta", "Zoë & Søns (Oslo)"]),
        ("search=IND aCm", ["Acme Industries"]),
        ("search=dustries", []),
        ("search=søn oslo", ["Zoë & Søns (Oslo)"]),
        ("search=ZOË", ["Zoë & Søns (Oslo)"]),
        ("search=acme-inc", ["Acme Industries"]),
        ("search=acme-i", ["Acme Industries"]),
        ("search=org_2", ["Beta"]),
        ("search=%26 ( oslo ) :* | !", ["Zoë & Søns (Oslo)"]),
        ("search=---", []),
        ("search='", []),
        ("search=\\", []),
        ("search=100%25", []),
        ("search=" + "x" * 256, []),
    ],
)
def test_tenants_page_is_filtered_and_ordered(
    staff: Client, legacy: Callable[..., Tenant], query: str, expected: list[str]
) -> None:
    legacy("Acme Industries", slug="acme-inc")
    legacy("Beta", clerk_org_id="org_2", status="suspended")
    legacy("Zoë & Søns (Oslo)")

    assert names(staff.get(f"/api/v1/tenants?{query}")) == expected


@pytest.mark.parametrize(
    ("query", "attribute"),
    [
        ("page=0", "page"),
        ("page=x", "page"),
        ("page=99999999999999999999", "page"),
        ("pageSize=101", "pageSize"),
        ("pageSize=0", "pageSize"),
        ("status=open", "status"),
        ("linked=maybe", "linked"),
        ("ordering=slug", "ordering"),
        ("search=%00", "search"),
        ("search=" + "x" * 257, "search"),
    ],
)
def test_tenants_page_with_a_malformed_parameter_is_400(staff: Client, query: str, attribute: str) -> None:
    status, _, attr = error(staff.get(f"/api/v1/tenants?{query}"))

    assert (status, attr) == (400, attribute)


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_tenants_pages_linked_by_next_and_previous_hold_every_tenant_once(
    staff: Client, legacy: Callable[..., Tenant], rows: int
) -> None:
    expected = [legacy(f"Tenant {number}").name for number in range(rows)]
    first = url = "http://testserver/api/v1/tenants?pageSize=3&status=active"
    found, pages = [], []

    while url:
        page = staff.get(url).json()
        assert page["count"] == rows
        assert "countIsEstimate" not in page
        found += [tenant["name"] for tenant in page["results"]]
        pages.append((url, page["previous"]))
        url = page["next"]

    assert found == expected
    assert [previous for _, previous in pages] == [None, *(page for page, _ in pages[:-1])]
    assert error(staff.get(f"{first}&page={len(pages) + 1}"))[:2] == (404, "not_found")


@pytest.fixture
def many_tenants(db: None) -> Iterator[None]:
    """10,003 tenants, and statistics that know of them. ANALYZE is not undone by the end of a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO tenants (name) SELECT 'Tenant ' || n FROM generate_series(1, 10003) AS n")
        cursor.execute("ANALYZE tenants")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tenants")
        cursor.execute("ANALYZE tenants")


def test_tenants_page_above_10000_rows_estimates_the_count(staff: Client, many_tenants: None) -> None:
    page = staff.get("/api/v1/tenants?pageSize=3&page=3334").json()
    exact = staff.get("/api/v1/tenants?search=tenant 99").json()

    assert (page["countIsEstimate"], len(page["results"]), page["next"] is None) == (True, 3, False)
    assert 10_001 <= page["count"] <= 11_000
    assert (exact["count"], "countIsEstimate" in exact) == (111, False)


def test_tenants_search_uses_the_index_of_words(db: None) -> None:
    tenants = Tenant.objects.all().matching(search="acme ind")
    with connection.cursor() as cursor:
        # Of an empty table, a scan of the whole primary key would be cheaper.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")

    plan = tenants.explain()

    assert all(name in plan for name in ("tenants_name_words", "tenants_slug", "clerk_org_id")), plan
    assert "Seq Scan" not in plan


def test_tenants_name_of_any_length_and_characters_is_stored(db: None) -> None:
    for name in ("x" * 100_000, "\u6f22" * 100_000, " ", "", "'\\:*&|!()<->", "\t\n\u00a0\u3000"):
        Tenant.objects.create(name=name)


def test_members_page_shows_current_and_former_members_by_time_of_joining(
    ada: Caller, grace: Caller, staff: Client
) -> None:
    tenant = ada.create("Acme").json()
    Membership.objects.create(tenant_id=tenant["id"], clerk_user_id="user_early", role="member")
    Membership.objects.filter(clerk_user_id="user_early").update(is_active=False, clerk_created_at=1)
    path = f"/tenants/{tenant['id']}/members"

    page = ada.get(f"{path}?pageSize=1").json()

    assert page["results"] == [
        {
            "clerkUserId": "user_early",
            "role": "member",
            "isActive": False,
            "joinedAt": "1970-01-01T00:00:00.001000Z",
        }
    ]
    assert (page["count"], page["next"]) == (2, f"http://testserver/api/v1{path}?page=2&pageSize=1")
    [member] = ada.get(f"{path}?pageSize=1&page=2").json()["results"]
    assert (member["clerkUserId"], member["role"], member["isActive"]) == (ada.id, "org:admin", True)
    assert error(grace.get(path))[:2] == (404, "not_found")
    assert staff.get(f"/api/v1{path}").json()["count"] == 2


def test_members_page_by_staff_requires_both_permissions(
    client: Client, legacy: Callable[..., Tenant]
) -> None:
    path = f"/api/v1/tenants/{legacy().pk}/members"
    user = User.objects.create_user("staff", is_staff=True)
    client.force_login(user)
    assert error(client.get(path))[0] == 404

    user.user_permissions.add(Permission.objects.get(codename="view_tenant"))

    assert error(client.get(path))[:2] == (403, "permission_denied")
