"""Listings: pages, orders, filters and what they refuse."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.sandbox import Json, SandboxControl


@pytest.fixture
def http(sandbox: SandboxControl) -> Iterator[httpx.Client]:
    with sandbox.backend_client() as client:
        yield client


def _refusal(reply: httpx.Response) -> tuple[int, str, str | None]:
    error = reply.json()["errors"][0]
    return reply.status_code, error["code"], error.get("meta", {}).get("param_name")


def _names(page: Json) -> list[str]:
    return [row["name"] for row in page["data"]]


def test_list_default_page_is_ten_newest_first(sandbox: SandboxControl) -> None:
    for number in range(12):
        sandbox.organization(f"Acme {number}")

    page = sandbox.api("GET", "/organizations")

    assert _names(page) == [f"Acme {number}" for number in range(11, 1, -1)]
    assert page["total_count"] == 12
    assert "members_count" not in page["data"][0]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"order_by": "name"}, ["Acme", "Beta", "Ceta"]),
        ({"order_by": "-name"}, ["Ceta", "Beta", "Acme"]),
        ({"order_by": "+created_at"}, ["Ceta", "Acme", "Beta"]),
        ({"order_by": "-members_count", "limit": 1}, ["Beta"]),
        ({"query": "ETA"}, ["Beta", "Ceta"]),
        ({"query": "cet"}, ["Ceta"]),
        ({"offset": 1, "limit": 1, "order_by": "name"}, ["Beta"]),
        ({"offset": 99}, []),
    ],
)
def test_list_orders_filters_and_pages(sandbox: SandboxControl, query: Json, names: list[str]) -> None:
    for name in ("Ceta", "Acme"):
        sandbox.organization(name)
    sandbox.organization("Beta", sandbox.user()["id"])

    assert _names(sandbox.api("GET", "/organizations", **query)) == names


def test_list_filters_by_signed_ids(sandbox: SandboxControl) -> None:
    user = sandbox.user()["id"]
    first, second = sandbox.organization("First", user), sandbox.organization("Second")

    def listed(**query: Any) -> list[str]:
        return _names(sandbox.api("GET", "/organizations", **query))

    assert listed(organization_id=[first["id"], "org_unknown"]) == ["First"]
    assert listed(organization_id=[f"-{first['id']}"]) == ["Second"]
    assert listed(user_id=[f"+{user}"]) == ["First"]
    assert listed(user_id=[f"-{user}"]) == ["Second"]
    assert listed(user_id=["user_unknown"]) == []
    assert listed(query=second["id"]) == ["Second"]


@pytest.mark.parametrize("path", ["/organizations", "/organization_memberships", "/users"])
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "form_param_value_invalid"),
        ("limit=501", "form_param_value_invalid"),
        ("limit=10.0", "form_param_format_invalid"),
        ("limit=", "form_param_format_invalid"),
        ("limit=" + "9" * 50, "form_param_format_invalid"),
        ("offset=-1", "form_param_value_invalid"),
        ("order_by=updated", "form_param_value_invalid"),
        ("order_by=%2B", "form_param_value_invalid"),
        ("cursor=x", "form_param_unknown"),
    ],
)
def test_list_with_bad_parameters_is_refused(http: httpx.Client, path: str, query: str, code: str) -> None:
    assert _refusal(http.get(f"/v1{path}?{query}")) == (422, code, query.partition("=")[0])


def test_list_takes_one_hundred_ids_at_most(http: httpx.Client) -> None:
    ids = [f"org_{number}" for number in range(101)]

    reply = http.get("/v1/organizations", params={"organization_id": ids})

    assert _refusal(reply) == (422, "form_param_value_invalid", "organization_id")


def test_list_memberships_filters_by_user_and_role(sandbox: SandboxControl) -> None:
    ada = sandbox.user(firstName="Ada", emailAddress="ada@example.com")["id"]
    bob = sandbox.user(firstName="Bob", username="bob")["id"]
    organization = sandbox.organization("Acme", ada)["id"]
    sandbox.membership(organization, bob)

    def listed(**query: Any) -> list[str]:
        page = sandbox.api("GET", f"/organizations/{organization}/memberships", **query)
        return [row["public_user_data"]["first_name"] for row in page["data"]]

    assert listed() == ["Bob", "Ada"]
    assert listed(order_by="first_name") == ["Ada", "Bob"]
    assert listed(role="org:admin") == ["Ada"]
    assert listed(user_id=[f"-{ada}"]) == ["Bob"]
    assert listed(query="EXAMPLE.com") == ["Ada"]
    assert listed(username="bob") == ["Bob"]
    assert listed(phone_number="+1") == []


def test_list_users_by_cursor_continues_after_it(sandbox: SandboxControl, http: httpx.Client) -> None:
    users = [sandbox.user()["id"] for _ in range(3)]

    page = http.get("/v1/users", params={"starting_after": users[2]}).json()
    mixed = http.get("/v1/users", params={"starting_after": users[2], "offset": 1})
    unordered = http.get("/v1/users", params={"starting_after": users[2], "order_by": "username"})

    assert [user["id"] for user in page] == [users[1], users[0]]
    assert (mixed.status_code, unordered.status_code) == (422, 422)


def test_list_shows_changes_of_the_nested_records(sandbox: SandboxControl) -> None:
    organization = sandbox.organization("Acme", sandbox.user()["id"])
    sandbox.api("GET", "/organization_memberships")

    sandbox.api("PATCH", f"/organizations/{organization['id']}", {"name": "Renamed"})

    listed = sandbox.api("GET", "/organization_memberships")["data"][0]
    assert listed["organization"]["name"] == "Renamed"


def test_complete_listing_by_pages_finds_every_record_once(sandbox: SandboxControl) -> None:
    sandbox.reset(organizations=1200, users=7, membershipsPerOrganization=3)

    pages = [
        sandbox.api("GET", "/organization_memberships", limit=500, offset=offset)
        for offset in range(0, 4000, 500)
    ]

    ids = [row["id"] for page in pages for row in page["data"]]
    assert {page["total_count"] for page in pages} == {3600}
    assert len(ids) == len(set(ids)) == 3600
