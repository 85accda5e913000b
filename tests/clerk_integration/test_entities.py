"""The mapping from Clerk's JSON: what is needed, what may be missing or odd."""

import json
from typing import Any

import pytest

from clerk_integration.entities import (
    MARKER_KEY,
    ClerkMembership,
    ClerkOrganization,
    NestedOrganizations,
    UnreadableRecord,
    normalise_role,
)

ORGANIZATION: dict[str, Any] = {
    "object": "organization",
    "id": "org_1",
    "name": "Acme",
    "slug": "acme",
    "image_url": "https://img.example.com/1",
    "public_metadata": {"plan": "pro"},
    "private_metadata": {MARKER_KEY: {"tenant": 7}, "password": "hunter2"},
    "created_by": "user_1",
    "created_at": 1_700_000_000_000,
    "updated_at": 1_700_000_000_001,
}
MEMBERSHIP: dict[str, Any] = {
    "id": "orgmem_1",
    "role": "org:admin",
    "organization": ORGANIZATION,
    "public_user_data": {"user_id": "user_1"},
    "created_at": 1_700_000_000_002,
    "updated_at": 1_700_000_000_003,
}


def organization(**changes: Any) -> ClerkOrganization:
    return ClerkOrganization.from_json({**ORGANIZATION, **changes})


def test_organization_of_a_whole_record_has_its_fields() -> None:
    assert organization() == ClerkOrganization(
        id="org_1",
        name="Acme",
        slug="acme",
        image_url="https://img.example.com/1",
        public_metadata={"plan": "pro"},
        created_by="user_1",
        created_at=1_700_000_000_000,
        updated_at=1_700_000_000_001,
        marker={"tenant": 7},
    )


def test_organization_keeps_nothing_of_private_metadata_but_the_marker() -> None:
    assert "hunter2" not in repr(organization())


def test_organization_with_nothing_but_an_id_is_read() -> None:
    assert ClerkOrganization.from_json({"id": "org_1"}) == ClerkOrganization(id="org_1", name="")


MALFORMED = ["", "bogus", "{}", "{}a/b", "{}a?b", "{}a b", "{}é", "{}1\x00", "x{}1", "{}" + "a" * 252]
"""Ids that no path may hold; `{}` stands for the prefix."""


@pytest.mark.parametrize("malformed", MALFORMED)
def test_record_with_an_id_that_is_none_of_clerks_is_unreadable(malformed: str) -> None:
    with pytest.raises(UnreadableRecord, match=r"'id' is not 'org_' followed by"):
        organization(id=malformed.format("org_"))
    user = malformed.format("user_")
    with pytest.raises(UnreadableRecord, match=r"'user_id' is not 'user_' followed by"):
        ClerkMembership.from_json({**MEMBERSHIP, "public_user_data": {"user_id": user}})
    assert organization(created_by=user).created_by is None


@pytest.mark.parametrize(
    "record", [None, [], "org_1", {}, {"id": ""}, {"id": 1}, {"id": "o" * 256}, {"id": "o\x00"}]
)
def test_organization_without_a_usable_id_is_unreadable(record: Any) -> None:
    with pytest.raises(UnreadableRecord):
        ClerkOrganization.from_json(record)


@pytest.mark.parametrize("slug", [None, "", 7, "s" * 513])
def test_organization_without_a_usable_slug_has_none(slug: Any) -> None:
    assert organization(slug=slug).slug is None


@pytest.mark.parametrize(
    "stamp",
    [
        None,
        "soon",
        True,
        -1,
        2**63,
        1e400,
        float("nan"),
        {},
        0,
        1_700_000_000,
        946_684_799_999,
        253_402_300_800_000,
        "9" * 5000,
    ],
)
def test_organization_with_an_odd_time_has_none(stamp: Any) -> None:
    assert organization(updated_at=stamp).updated_at is None


@pytest.mark.parametrize("stamp", [1_700_000_000_007, "1700000000007", 1_700_000_000_007.0])
def test_organization_time_is_an_integer(stamp: Any) -> None:
    assert organization(updated_at=stamp).updated_at == 1_700_000_000_007


@pytest.mark.parametrize("stamp", [946_684_800_000, 253_402_300_799_999])
def test_organization_time_at_the_edge_of_the_plausible_is_kept(stamp: int) -> None:
    assert organization(created_at=stamp).created_at == stamp


@pytest.mark.parametrize("metadata", [None, [], "text"])
def test_organization_with_odd_metadata_has_empty_ones(metadata: Any) -> None:
    read = organization(public_metadata=metadata, private_metadata=metadata)
    assert read.public_metadata == {}
    assert read.marker is None


def test_organization_holds_only_what_postgresql_can_store() -> None:
    hostile = json.loads('{"a\\u0000": ["b\\u0000", "\\ud800", NaN, Infinity, {"c": null}]}')
    read = organization(name="A\x00cme\ud800", public_metadata=hostile)
    assert read.name == "Acme?"
    assert read.public_metadata == {"a": ["b", "?", None, None, {"c": None}]}


def test_membership_of_a_whole_record_has_its_fields() -> None:
    membership = ClerkMembership.from_json(MEMBERSHIP)
    assert (membership.id, membership.user_id, membership.role) == ("orgmem_1", "user_1", "org:admin")
    assert membership.organization == organization()
    assert (membership.created_at, membership.updated_at) == (1_700_000_000_002, 1_700_000_000_003)


@pytest.mark.parametrize("field", ["id", "role", "organization", "public_user_data"])
def test_membership_without_a_needed_field_is_unreadable(field: str) -> None:
    with pytest.raises(UnreadableRecord):
        ClerkMembership.from_json({**MEMBERSHIP, field: None})


@pytest.mark.parametrize("value", ["x" * 256, "x\x00", "\ud800", 7, ["x"]])
@pytest.mark.parametrize("field", ["id", "role", "user_id"])
def test_membership_with_a_key_that_its_column_cannot_hold_is_unreadable(field: str, value: Any) -> None:
    odd = {"public_user_data": {"user_id": value}} if field == "user_id" else {field: value}
    for known in (None, "user_1"):
        with pytest.raises(UnreadableRecord):
            ClerkMembership.from_json({**MEMBERSHIP, **odd}, user_id=known)


@pytest.mark.parametrize("length", [252, 253, 255])
def test_membership_role_without_the_prefix_has_to_fit_with_it(length: int) -> None:
    with pytest.raises(UnreadableRecord):
        ClerkMembership.from_json({**MEMBERSHIP, "role": "r" * length})


def test_membership_role_that_just_fits_is_read() -> None:
    for role in ("r" * 251, "org:" + "r" * 251):
        assert ClerkMembership.from_json({**MEMBERSHIP, "role": role}).role == "org:" + "r" * 251


def test_nested_organization_of_equal_json_is_read_once() -> None:
    nested = NestedOrganizations()
    copy = json.loads(json.dumps(ORGANIZATION))
    assert nested.read(copy) is nested.read(ORGANIZATION)
    assert nested.read({**copy, "name": "New"}) == organization(name="New")
    assert nested.read(copy) == organization()


@pytest.mark.parametrize("malformed", [None, "org_1", {"id": ["org_1"]}, {"id": "org_"}])
def test_nested_organization_without_a_usable_id_is_unreadable(malformed: Any) -> None:
    with pytest.raises(UnreadableRecord):
        NestedOrganizations().read(malformed)


def test_membership_of_a_users_listing_may_lack_the_user() -> None:
    record = {**MEMBERSHIP, "public_user_data": None}
    assert ClerkMembership.from_json(record, user_id="user_9").user_id == "user_9"


@pytest.mark.parametrize(("role", "expected"), [("org:admin", "org:admin"), ("admin", "org:admin")])
def test_role_is_spelled_as_in_the_backend_api(role: str, expected: str) -> None:
    assert normalise_role(role) == expected
