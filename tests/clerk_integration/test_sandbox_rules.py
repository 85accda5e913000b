"""Clerk's rules about records, as the Backend API shows them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.sandbox import Json, SandboxControl


@pytest.fixture
def http(sandbox: SandboxControl) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {sandbox.description['secretKey']}"}
    with httpx.Client(
        base_url=sandbox.description["apiUrl"], headers=headers, timeout=20, trust_env=False
    ) as client:
        yield client


def _refusal(reply: httpx.Response) -> tuple[int, str, str | None]:
    error = reply.json()["errors"][0]
    return reply.status_code, error["code"], error.get("meta", {}).get("param_name")


def _names(page: Json) -> list[str]:
    return [row["name"] for row in page["data"]]


# --- creating --------------------------------------------------------------------------------


def test_create_makes_the_creator_a_member_in_the_creator_role(sandbox: SandboxControl) -> None:
    user = sandbox.user()["id"]

    organization = sandbox.organization("Acme & Söhne", user)

    memberships = sandbox.api("GET", f"/users/{user}/organization_memberships")
    assert organization["slug"] == "acme-s-hne"
    assert organization["max_allowed_memberships"] == 5
    assert [(row["role"], row["organization"]["id"]) for row in memberships["data"]] == [
        ("org:admin", organization["id"])
    ]


def test_create_with_a_custom_creator_role_uses_it(sandbox: SandboxControl) -> None:
    sandbox.settings(
        customRoles={"org:owner": ["org:sys_memberships:manage", "org:sys_memberships:read"]},
        creatorRole="org:owner",
    )
    user = sandbox.user()["id"]

    organization = sandbox.organization("Acme", user)

    member = sandbox.api("GET", f"/organizations/{organization['id']}/memberships")["data"][0]
    assert (member["role"], member["role_name"]) == ("org:owner", "Owner")


def test_create_without_slug_gets_another_when_the_first_is_taken(sandbox: SandboxControl) -> None:
    slugs = {sandbox.organization("Acme")["slug"] for _ in range(3)}

    assert len(slugs) == 3


def test_create_while_slugs_are_disabled_generates_a_slug_unless_told_otherwise(
    sandbox: SandboxControl,
) -> None:
    sandbox.settings(slugs="disabled")
    generated = sandbox.organization("Acme")
    sandbox.settings(nullSlugs=True)

    assert generated["slug"] == "acme"
    assert sandbox.organization("Acme")["slug"] is None


def test_creates_of_the_same_slug_at_once_leave_one(sandbox: SandboxControl, http: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(
                lambda number: http.post("/organizations", json={"name": f"Acme {number}", "slug": "acme"}),
                range(8),
            )
        )

    assert sorted(reply.status_code for reply in replies) == [200] + [422] * 7
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({}, (422, "form_param_missing", "name")),
        ({"name": None}, (422, "form_param_missing", "name")),
        ({"name": "  "}, (422, "form_param_missing", "name")),
        ({"name": 5}, (422, "form_param_format_invalid", "name")),
        ({"name": "x" * 257}, (422, "form_param_max_length_exceeded", "name")),
        ({"name": "see https://example.com"}, (422, "form_param_value_invalid", "name")),
        ({"name": "<b>bold</b>"}, (422, "form_param_value_invalid", "name")),
        ({"name": "Acme", "slug": ""}, (422, "form_param_format_invalid", "slug")),
        ({"name": "Acme", "slug": "---"}, (422, "form_param_format_invalid", "slug")),
        ({"name": "Acme", "slug": "a b"}, (422, "form_param_format_invalid", "slug")),
        ({"name": "Acme", "slug": "acme\n"}, (422, "form_param_format_invalid", "slug")),
        ({"name": "Acme", "max_allowed_memberships": True}, (422, "form_param_format_invalid", None)),
        ({"name": "Acme", "max_allowed_memberships": -1}, (422, "form_param_value_invalid", None)),
        ({"name": "Acme", "max_allowed_memberships": 2**63}, (422, "form_param_value_invalid", None)),
        ({"name": "Acme", "created_at": "yesterday"}, (422, "form_param_format_invalid", "created_at")),
        ({"name": "Acme", "created_at": "2024-01-01T00:00:00"}, (422, "form_param_format_invalid", None)),
        ({"name": "Acme", "public_metadata": []}, (422, "form_param_format_invalid", "public_metadata")),
        ({"name": "Acme", "logo": "x"}, (422, "form_param_unknown", "logo")),
    ],
)
def test_create_with_bad_fields_is_refused_and_stores_nothing(
    sandbox: SandboxControl, http: httpx.Client, body: Json, refusal: tuple[int, str, str | None]
) -> None:
    status, code, param = _refusal(http.post("/organizations", json=body))

    assert (status, code) == refusal[:2]
    assert param == (refusal[2] or list(body)[-1])
    assert sandbox.api("GET", "/organizations")["total_count"] == 0


def test_create_keeps_what_was_sent(sandbox: SandboxControl, http: httpx.Client) -> None:
    body = {
        "name": "Acme",
        "created_at": "2024-01-02T03:04:05.678Z",
        "max_allowed_memberships": 0,
        "public_metadata": {"plan": "gold"},
        "private_metadata": {"note": ["\ud800", None, 1.5]},
    }

    stored = http.post("/organizations", json=body).json()

    assert stored == http.get("/organizations/acme").json()
    assert stored["created_at"] == 1704164645678
    assert stored["updated_at"] > stored["created_at"]
    assert {name: stored[name] for name in list(body)[2:]} == dict(list(body.items())[2:])


# --- changing --------------------------------------------------------------------------------


def test_changes_never_share_a_time_stamp(sandbox: SandboxControl) -> None:
    organization = sandbox.organization("Acme", sandbox.user()["id"])
    path = f"/organizations/{organization['id']}"

    stamps = [sandbox.api("PATCH", path, {"name": f"Acme {n}"})["updated_at"] for n in range(50)]

    assert stamps == sorted(set(stamps))
    assert stamps[0] > organization["updated_at"]


def test_update_to_its_own_slug_is_allowed_and_to_another_ones_refused(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    first, second = sandbox.organization("First"), sandbox.organization("Second")

    assert http.patch(f"/organizations/{first['id']}", json={"slug": "first"}).status_code == 200
    taken = http.patch(f"/organizations/{second['id']}", json={"slug": "first"})
    assert _refusal(taken) == (422, "form_identifier_exists", "slug")


def test_update_of_the_slug_frees_the_old_one(sandbox: SandboxControl, http: httpx.Client) -> None:
    first = sandbox.organization("First")
    http.patch(f"/organizations/{first['id']}", json={"slug": "moved"})

    assert http.get("/organizations/first").status_code == 404
    assert http.get("/organizations/moved").json()["id"] == first["id"]
    assert sandbox.organization("First", slug="first")["slug"] == "first"


def test_merge_metadata_is_deep_and_null_removes(sandbox: SandboxControl, http: httpx.Client) -> None:
    organization = sandbox.organization("Acme", public_metadata={"a": {"b": 1, "c": 2}, "d": 3})
    path = f"/organizations/{organization['id']}/metadata"

    merged = http.patch(path, json={"public_metadata": {"a": {"b": None, "e": 4}, "d": None}}).json()
    replaced = http.put(path, json={"private_metadata": {"x": 1}}).json()

    assert merged["public_metadata"] == {"a": {"c": 2, "e": 4}}
    assert replaced["public_metadata"] == {"a": {"c": 2, "e": 4}}
    assert replaced["private_metadata"] == {"x": 1}


def test_merge_metadata_over_eight_kilobytes_in_sum_is_refused(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    organization = sandbox.organization("Acme", public_metadata={"a": "x" * 5000})

    reply = http.patch(
        f"/organizations/{organization['id']}/metadata", json={"public_metadata": {"b": "x" * 5000}}
    )

    assert _refusal(reply) == (422, "form_param_exceeds_allowed_size", "public_metadata")


def test_replace_metadata_with_null_stores_null(sandbox: SandboxControl, http: httpx.Client) -> None:
    organization = sandbox.organization("Acme", public_metadata={"a": 1})

    reply = http.put(f"/organizations/{organization['id']}/metadata", json={"public_metadata": None})

    assert reply.json()["public_metadata"] is None


# --- memberships and deletion ----------------------------------------------------------------


def test_delete_takes_the_memberships_along_and_works_once(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    user = sandbox.user()["id"]
    organization = sandbox.organization("Acme", user)
    path = f"/organizations/{organization['id']}"

    deleted = http.delete(path)

    assert deleted.json() == {
        "object": "organization",
        "id": organization["id"],
        "slug": "acme",
        "deleted": True,
    }
    assert sandbox.api("GET", f"/users/{user}/organization_memberships")["total_count"] == 0
    assert sandbox.api("GET", "/organization_memberships")["total_count"] == 0
    assert _refusal(http.delete(path)) == (404, "resource_not_found", None)


def test_last_admin_can_neither_leave_nor_be_demoted_until_there_is_another(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    admin, member = sandbox.user()["id"], sandbox.user()["id"]
    organization = sandbox.organization("Acme", admin)["id"]
    sandbox.membership(organization, member)
    path = f"/organizations/{organization}/memberships"

    assert _refusal(http.delete(f"{path}/{admin}"))[:2] == (400, "organization_minimum_permissions_needed")
    demoted = http.patch(f"{path}/{admin}", json={"role": "org:member"})
    assert _refusal(demoted)[:2] == (400, "organization_minimum_permissions_needed")
    assert http.patch(f"{path}/{member}", json={"role": "org:admin"}).status_code == 200
    assert http.delete(f"{path}/{admin}").json()["role"] == "org:admin"


def test_rejoining_makes_a_new_membership(sandbox: SandboxControl) -> None:
    user = sandbox.user()["id"]
    organization = sandbox.organization("Acme")["id"]
    first = sandbox.membership(organization, user)
    sandbox.api("DELETE", f"/organizations/{organization}/memberships/{user}")

    second = sandbox.membership(organization, user)

    assert second["id"] != first["id"]
    assert second["created_at"] > first["created_at"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"role": "admin"}, 404), ({"user_id": "user_nobody"}, 404), ({"role": None}, 422)],
)
def test_membership_with_an_unknown_role_or_user_is_refused(
    sandbox: SandboxControl, http: httpx.Client, changes: Json, status: int
) -> None:
    organization = sandbox.organization("Acme")["id"]
    body = {"user_id": sandbox.user()["id"], "role": "org:member", **changes}

    assert http.post(f"/organizations/{organization}/memberships", json=body).status_code == status
    assert sandbox.api("GET", f"/organizations/{organization}/memberships")["total_count"] == 0


# --- listing ---------------------------------------------------------------------------------


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
    assert _refusal(http.get(f"{path}?{query}")) == (422, code, query.partition("=")[0])


def test_list_takes_one_hundred_ids_at_most(http: httpx.Client) -> None:
    ids = [f"org_{number}" for number in range(101)]

    reply = http.get("/organizations", params={"organization_id": ids})

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

    page = http.get("/users", params={"starting_after": users[2]}).json()
    mixed = http.get("/users", params={"starting_after": users[2], "offset": 1})
    unordered = http.get("/users", params={"starting_after": users[2], "order_by": "username"})

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
