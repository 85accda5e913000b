"""Clerk's rules about records, as the Backend API shows them."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from clerk_integration.sandbox.application import answer
from clerk_integration.sandbox.local_clerk import LocalClerk, Options
from clerk_integration.sandbox.messages import Request
from clerk_integration.sandbox.records import MillisecondClock
from tests.sandbox import Json, SandboxControl


class SlowClock(MillisecondClock):
    """Takes its time between a check and the change that it guards."""

    def next(self) -> int:
        time.sleep(0.02)
        return super().next()


@pytest.fixture
def http(sandbox: SandboxControl) -> Iterator[httpx.Client]:
    with sandbox.backend_client() as client:
        yield client


def _refusal(reply: httpx.Response) -> tuple[int, str, str | None]:
    error = reply.json()["errors"][0]
    return reply.status_code, error["code"], error.get("meta", {}).get("param_name")


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


def test_create_while_slugs_are_disabled_generates_a_slug_unless_null_slugs_is_set(
    sandbox: SandboxControl,
) -> None:
    sandbox.settings(slugs="disabled")
    generated = sandbox.organization("Acme")
    sandbox.settings(nullSlugs=True)

    assert generated["slug"] == "acme"
    assert sandbox.organization("Acme")["slug"] is None


def test_creates_of_the_same_slug_at_once_leave_one(sandbox: SandboxControl, http: httpx.Client) -> None:
    def create(number: int) -> int:
        return http.post("/v1/organizations", json={"name": f"Acme {number}", "slug": "acme"}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(create, range(8)))

    assert sorted(statuses) == [200] + [422] * 7
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_create_of_one_slug_between_check_and_change_is_refused() -> None:
    clerk = LocalClerk("http://127.0.0.1", Options.parse({}))
    clerk.store.clock = SlowClock()
    body = b'{"name": "Acme", "slug": "acme"}'
    headers = {"authorization": f"Bearer {clerk.instance.keys.secret_key}"}
    request = Request("POST", "/v1/organizations", headers=headers, raw_body=body)

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: answer(clerk, request).status, range(8)))

    assert sorted(statuses) == [200] + [422] * 7
    assert len(clerk.store.organizations) == 1


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
    status, code, param = _refusal(http.post("/v1/organizations", json=body))

    assert (status, code) == refusal[:2]
    assert param == (refusal[2] or list(body)[-1])
    assert sandbox.api("GET", "/organizations")["total_count"] == 0


def test_create_keeps_the_fields_that_were_sent(sandbox: SandboxControl, http: httpx.Client) -> None:
    body = {
        "name": "Acme",
        "created_at": "2024-01-02T03:04:05.678Z",
        "max_allowed_memberships": 0,
        "public_metadata": {"plan": "gold"},
        "private_metadata": {"note": ["\ud800", None, 1.5]},
    }

    stored = http.post("/v1/organizations", content=json.dumps(body)).json()

    assert stored == http.get("/v1/organizations/acme").json()
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


def test_update_to_its_own_slug_is_allowed_and_to_a_taken_one_refused(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    first, second = sandbox.organization("First"), sandbox.organization("Second")

    assert http.patch(f"/v1/organizations/{first['id']}", json={"slug": "first"}).status_code == 200
    taken = http.patch(f"/v1/organizations/{second['id']}", json={"slug": "first"})
    assert _refusal(taken) == (422, "form_identifier_exists", "slug")


def test_update_of_the_slug_frees_the_old_one(sandbox: SandboxControl, http: httpx.Client) -> None:
    first = sandbox.organization("First")
    http.patch(f"/v1/organizations/{first['id']}", json={"slug": "moved"})

    assert http.get("/v1/organizations/first").status_code == 404
    assert http.get("/v1/organizations/moved").json()["id"] == first["id"]
    assert sandbox.organization("First", slug="first")["slug"] == "first"


def test_merge_metadata_is_deep_and_null_removes(sandbox: SandboxControl, http: httpx.Client) -> None:
    organization = sandbox.organization("Acme", public_metadata={"a": {"b": 1, "c": 2}, "d": 3})
    path = f"/v1/organizations/{organization['id']}/metadata"

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
        f"/v1/organizations/{organization['id']}/metadata", json={"public_metadata": {"b": "x" * 5000}}
    )

    assert _refusal(reply) == (422, "form_param_exceeds_allowed_size", "public_metadata")


def test_replace_metadata_with_null_stores_null(sandbox: SandboxControl, http: httpx.Client) -> None:
    organization = sandbox.organization("Acme", public_metadata={"a": 1})

    reply = http.put(f"/v1/organizations/{organization['id']}/metadata", json={"public_metadata": None})

    assert reply.json()["public_metadata"] is None


# --- memberships and deletion ----------------------------------------------------------------


def test_delete_takes_the_memberships_along_and_works_once(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    user = sandbox.user()["id"]
    organization = sandbox.organization("Acme", user)
    path = f"/v1/organizations/{organization['id']}"

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
    path = f"/v1/organizations/{organization}/memberships"

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

    assert http.post(f"/v1/organizations/{organization}/memberships", json=body).status_code == status
    assert sandbox.api("GET", f"/organizations/{organization}/memberships")["total_count"] == 0
