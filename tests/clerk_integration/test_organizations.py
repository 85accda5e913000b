"""The gateway's functions against a local Clerk, and against listings that shift or lie."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from clerk_integration.entities import MARKER_KEY
from clerk_integration.exceptions import (
    ClerkNotFound,
    ClerkProtocolError,
    ClerkRejected,
    ClerkUnavailable,
    InvalidClerkId,
)
from clerk_integration.organizations import (
    create_clerk_org,
    get_clerk_membership,
    get_clerk_org,
    get_clerk_org_memberships_page,
    get_user_clerk_orgs,
    iter_clerk_memberships,
    iter_clerk_orgs,
    search_clerk_orgs,
)
from tests.hostile_server import HostileServer, respond
from tests.sandbox import SandboxControl

BAD_ORG_IDS: list[Any] = [
    "",
    "org_",
    "user_1",
    "org_a/b",
    "org_a?b",
    "org_a\n",
    " org_a",
    "org_é",
    "org_" + 252 * "a",
    1,
    None,
]
BAD_USER_IDS: list[Any] = ["", "user_", "org_1", "user_a/../b", "user_a#", "user_" + 251 * "a", None]


@pytest.fixture
def owner(sandbox: SandboxControl) -> str:
    """A user who may create organizations."""
    return str(sandbox.user()["id"])


@pytest.fixture
def server(settings: Settings) -> Iterator[HostileServer]:
    with HostileServer(respond()) as server:
        settings.CLERK_API_URL = server.api_url
        settings.CLERK_SECRET_KEY = "sk_test_of_a_scripted_server"
        yield server


def calls(sandbox: SandboxControl) -> list[str]:
    return [f"{call['method']} {call['path']}" for call in sandbox.requests()]


# One organization


def test_get_clerk_org_of_a_known_id_returns_it(sandbox: SandboxControl, owner: str) -> None:
    created = sandbox.organization("Acme", owner, "acme", public_metadata={"plan": "pro"})
    organization = get_clerk_org(created["id"])
    assert (organization.id, organization.name, organization.slug) == (created["id"], "Acme", "acme")
    assert organization.public_metadata == {"plan": "pro"}
    assert (organization.created_at, organization.updated_at) == (
        created["created_at"],
        created["updated_at"],
    )
    assert organization.created_by == owner


def test_get_clerk_org_of_an_unknown_id_raises_not_found(sandbox: SandboxControl) -> None:
    with pytest.raises(ClerkNotFound):
        get_clerk_org("org_nobody")


def test_get_clerk_org_by_a_slug_that_looks_like_an_id_raises_not_found(server: HostileServer) -> None:
    # Clerk takes a slug in the place of the id.
    server.script(respond(200, {"id": "org_other", "name": "Stranger", "slug": "org_1"}))
    with pytest.raises(ClerkNotFound):
        get_clerk_org("org_1")


@pytest.mark.parametrize("org_id", BAD_ORG_IDS)
def test_get_clerk_org_of_no_id_sends_nothing(sandbox: SandboxControl, org_id: Any) -> None:
    for call in (get_clerk_org, iter_clerk_memberships, lambda bad: get_clerk_membership(bad, "user_1")):
        with pytest.raises(InvalidClerkId):
            call(org_id)
    assert calls(sandbox) == []


@pytest.mark.parametrize("user_id", BAD_USER_IDS)
def test_call_with_no_user_id_sends_nothing(sandbox: SandboxControl, user_id: Any) -> None:
    for call in (
        get_user_clerk_orgs,
        lambda bad: create_clerk_org("Acme", bad),
        lambda bad: get_clerk_membership("org_1", bad or ""),
        lambda bad: iter_clerk_orgs(user_id=bad or ""),
    ):
        with pytest.raises(InvalidClerkId):
            call(user_id)
    assert calls(sandbox) == []


# Creating


def test_create_clerk_org_sends_one_post_with_what_was_given(sandbox: SandboxControl, owner: str) -> None:
    organization = create_clerk_org(
        "Acme",
        owner,
        "acme",
        marker={"tenant": 7},
        public_metadata={"plan": "pro"},
        max_allowed_memberships=9,
    )
    (request,) = sandbox.requests()
    assert (request["method"], request["path"]) == ("POST", "/v1/organizations")
    assert request["body"] == {
        "name": "Acme",
        "created_by": owner,
        "slug": "acme",
        "private_metadata": {MARKER_KEY: {"tenant": 7}},
        "public_metadata": {"plan": "pro"},
        "max_allowed_memberships": 9,
    }
    assert organization.marker == {"tenant": 7}
    assert get_clerk_org(organization.id) == organization


def test_create_clerk_org_without_options_leaves_them_out(sandbox: SandboxControl, owner: str) -> None:
    sandbox.organization_settings(slug_disabled=True)
    create_clerk_org("Acme", owner)
    (request,) = sandbox.requests("POST", "/v1/organizations")
    # A null slug is a slug to Clerk, and refused where slugs are disabled.
    assert request["body"] == {"name": "Acme", "created_by": owner}


def test_create_clerk_org_with_a_taken_slug_is_rejected_by_field(sandbox: SandboxControl, owner: str) -> None:
    sandbox.organization("First", owner, "acme")
    with pytest.raises(ClerkRejected) as caught:
        create_clerk_org("Second", owner, "acme")
    assert caught.value.param == "slug"


def test_create_clerk_org_whose_answer_is_lost_is_sent_once_and_found_by_its_marker(
    sandbox: SandboxControl, owner: str
) -> None:
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)
    with pytest.raises(ClerkUnavailable) as caught:
        create_clerk_org("Acme", owner, marker={"attempt": "a1"})
    assert caught.value.outcome_unknown
    assert calls(sandbox) == ["POST /v1/organizations"]
    with_marker = [found for found in iter_clerk_orgs(user_id=owner) if found.marker == {"attempt": "a1"}]
    assert [found.name for found in with_marker] == ["Acme"]


# Listings


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (500, 1), (501, 2), (1000, 2)])
def test_get_user_clerk_orgs_returns_every_page(
    sandbox: SandboxControl, owner: str, count: int, pages: int
) -> None:
    created = {sandbox.organization(f"Organization {number}", owner)["id"] for number in range(count)}
    memberships = get_user_clerk_orgs(owner)
    assert {membership.organization.id for membership in memberships} == created
    assert len(memberships) == count
    assert memberships.complete
    assert all(membership.role == "org:admin" for membership in memberships)
    assert len(sandbox.requests()) == pages


def test_get_user_clerk_orgs_of_an_unknown_user_raises_not_found(sandbox: SandboxControl) -> None:
    with pytest.raises(ClerkNotFound):
        get_user_clerk_orgs("user_nobody")


def test_get_user_clerk_orgs_with_a_record_that_the_sdk_refuses_reads_it(
    sandbox: SandboxControl, owner: str
) -> None:
    whole, odd = (sandbox.organization(name, owner) for name in ("Whole", "Odd"))
    sandbox.patch_record(odd["id"], remove=("has_image", "updated_at"), slug=None, object="new")
    memberships = {membership.organization.id: membership for membership in get_user_clerk_orgs(owner)}
    assert memberships.keys() == {whole["id"], odd["id"]}
    assert memberships[odd["id"]].organization.slug is None
    assert memberships[odd["id"]].organization.name == "Odd"


def test_get_clerk_org_that_the_sdk_refuses_is_read(sandbox: SandboxControl, owner: str) -> None:
    odd = sandbox.organization("Odd", owner)
    sandbox.patch_record(odd["id"], remove=("has_image",), slug=None, public_metadata=None)
    assert get_clerk_org(odd["id"]).public_metadata == {}


@pytest.mark.parametrize("has_id", [True, False])
def test_get_user_clerk_orgs_with_an_unreadable_record_says_which_records_clerk_has(
    sandbox: SandboxControl, owner: str, caplog: pytest.LogCaptureFixture, has_id: bool
) -> None:
    whole, lost = (sandbox.organization(name, owner) for name in ("Whole", "Lost"))
    [membership] = sandbox.api("GET", f"/organizations/{lost['id']}/memberships")["data"]
    sandbox.patch_record(lost["id"], remove=("id",))
    if not has_id:
        sandbox.patch_record(membership["id"], remove=("id",))
    with caplog.at_level(logging.WARNING):
        memberships = get_user_clerk_orgs(owner)
    assert [membership.organization.id for membership in memberships] == [whole["id"]]
    assert (len(memberships.skipped), memberships.complete) == (1, has_id)
    assert memberships.skipped_ids == [membership["id"]] * has_id
    assert "was skipped" in caplog.text
    assert len(sandbox.requests()) == 1


def test_iter_clerk_orgs_lists_the_organizations_of_a_user_oldest_first(
    sandbox: SandboxControl, owner: str
) -> None:
    stranger = sandbox.user()["id"]
    mine = [sandbox.organization(name, owner)["id"] for name in ("One", "Two", "Three")]
    theirs = sandbox.organization("Four", stranger)["id"]
    assert [found.id for found in iter_clerk_orgs(user_id=owner)] == mine
    assert [found.id for found in iter_clerk_orgs()] == [*mine, theirs]
    assert [found.id for found in iter_clerk_orgs(query=theirs)] == [theirs]


def test_iter_clerk_orgs_asks_for_a_page_only_when_it_is_wanted(sandbox: SandboxControl, owner: str) -> None:
    for number in range(501):
        sandbox.organization(f"Organization {number}", owner)
    listing = iter_clerk_orgs()
    assert calls(sandbox) == []
    assert next(listing).name == "Organization 0"
    assert len(calls(sandbox)) == 1
    assert not listing.complete
    assert len(list(listing)) == 500
    assert len(calls(sandbox)) == 2
    assert listing.complete


def test_iter_clerk_memberships_lists_all_members_with_roles(sandbox: SandboxControl, owner: str) -> None:
    org_id = sandbox.organization("Acme", owner)["id"]
    member = sandbox.user()["id"]
    sandbox.membership(org_id, member)
    listed = {membership.user_id: membership.role for membership in iter_clerk_memberships(org_id)}
    assert listed == {owner: "org:admin", member: "org:member"}


def test_iter_clerk_memberships_of_an_unknown_organization_raises_not_found(sandbox: SandboxControl) -> None:
    with pytest.raises(ClerkNotFound):
        list(iter_clerk_memberships("org_nobody"))


def test_get_clerk_membership_returns_the_one_or_none(sandbox: SandboxControl, owner: str) -> None:
    org_id = sandbox.organization("Acme", owner)["id"]
    stranger = sandbox.user()["id"]
    membership = get_clerk_membership(org_id, owner)
    assert membership is not None
    assert (membership.user_id, membership.role, membership.organization.id) == (owner, "org:admin", org_id)
    assert get_clerk_membership(org_id, stranger) is None


def test_get_clerk_membership_that_cannot_be_read_is_not_taken_for_absent(
    sandbox: SandboxControl, owner: str
) -> None:
    org_id = sandbox.organization("Acme", owner)["id"]
    membership = get_clerk_membership(org_id, owner)
    assert membership is not None
    sandbox.patch_record(membership.id, remove=("role",))
    with pytest.raises(ClerkProtocolError):
        get_clerk_membership(org_id, owner)


def test_membership_of_someone_else_in_a_users_list_is_skipped(server: HostileServer) -> None:
    record = {
        "id": "orgmem_1",
        "role": "org:admin",
        "organization": {"id": "org_1", "name": "Acme"},
        "public_user_data": {"user_id": "user_other"},
    }
    server.script(respond(200, {"data": [record], "total_count": 1}))
    memberships = get_user_clerk_orgs("user_1")
    assert (list(memberships), [one.id for one in memberships.skipped]) == ([], ["orgmem_1"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ACME", ["Acme 2", "Acme 1"]),
        ("acme-one", ["Acme 1"]),
        ("org_unknown", []),
        ("100% & more", ["100% & more"]),
    ],
)
def test_search_clerk_orgs_finds_parts_of_names_and_slugs_in_one_call(
    sandbox: SandboxControl, owner: str, text: str, found: list[str]
) -> None:
    for name, slug in (
        ("Acme 1", "acme-one"),
        ("Other", "other"),
        ("Acme 2", "acme-two"),
        ("100% & more", "b"),
    ):
        sandbox.organization(name, owner, slug=slug)
    sandbox.clear_requests()

    page = search_clerk_orgs(text)

    assert [organization.name for organization in page.records] == found
    assert calls(sandbox) == ["GET /v1/organizations"]


def test_search_clerk_orgs_id_finds_the_organization(sandbox: SandboxControl, owner: str) -> None:
    organization = sandbox.organization("Acme", owner)
    assert [found.name for found in search_clerk_orgs(organization["id"]).records] == ["Acme"]


def test_search_clerk_orgs_many_matches_returns_the_newest_and_their_number(
    sandbox: SandboxControl, owner: str
) -> None:
    for number in range(4):
        sandbox.organization(f"Acme {number}", owner)
    page = search_clerk_orgs("acme", limit=3)
    assert ([found.name for found in page.records], page.total) == (["Acme 3", "Acme 2", "Acme 1"], 4)


def test_get_clerk_org_memberships_page_returns_members_and_their_number(
    sandbox: SandboxControl, owner: str
) -> None:
    organization = sandbox.organization("Acme", owner)
    page = get_clerk_org_memberships_page(organization["id"])
    assert ([member.user_id for member in page.records], page.total) == ([owner], 1)
    with pytest.raises(ClerkNotFound):
        get_clerk_org_memberships_page("org_unknown")
