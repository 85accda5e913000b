"""Events with odd payloads: what identifies the row is enough, and no row takes what it cannot hold."""

import time
from datetime import timedelta
from typing import Any

import pytest

from clerk_integration.entities import ClerkMembership, ClerkOrganization, UnreadableRecord
from clerk_integration.webhooks import registry
from clerk_integration.webhooks.registry import ClerkEvent
from tenants.mirror import deletions, writer
from tenants.models import Membership, Tenant, Tombstone
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db

ACME = ClerkOrganization(id="org_acme", name="Acme", created_at=1000, updated_at=1000)
IN_A_DISTANT_YEAR = 2**62


def membership_of(user_id: str, **fields: Any) -> ClerkMembership:
    values = {"role": "org:admin", "organization": ACME, "created_at": 1000, "updated_at": 1000}
    return ClerkMembership(id=f"orgmem_{user_id}", user_id=user_id, **{**values, **fields})


def handle(event_type: str, data: dict[str, Any]) -> None:
    registry.handle([ClerkEvent.from_json({"type": event_type, "data": data})])


@pytest.mark.parametrize(
    "rest",
    [
        {"deleted": True},
        {"role": "org:admin", "organization": {"id": ACME.id}},
        {"public_user_data": None, "role": None, "organization": None},
    ],
)
@pytest.mark.parametrize("others", [0, 2, 8])
def test_membership_deleted_with_the_id_alone_ends_that_row(rest: dict[str, Any], others: int) -> None:
    memberships = [membership_of(f"user_{number}") for number in range(others + 1)]
    writer.write_memberships(memberships)

    handle("organizationMembership.deleted", {"id": memberships[0].id, **rest})

    active = Membership.objects.filter(is_active=True)
    assert set(active.values_list("clerk_membership_id", flat=True)) == {m.id for m in memberships[1:]}
    assert Tombstone.objects.get().clerk_id == memberships[0].id


def test_membership_deleted_with_the_id_alone_before_it_was_seen_never_begins() -> None:
    handle("organizationMembership.deleted", {"id": "orgmem_user_1", "deleted": True})

    writer.write_memberships([membership_of("user_1"), membership_of("user_2")])

    assert Membership.objects.get().clerk_user_id == "user_2"


@pytest.mark.parametrize(
    "event_type", ["organization.deleted", "organizationMembership.deleted", "user.deleted"]
)
@pytest.mark.parametrize("clerk_id", ["", None, 1, "x" * 256])
def test_deleted_with_an_unusable_id_is_unreadable(event_type: str, clerk_id: Any) -> None:
    with pytest.raises(UnreadableRecord):
        handle(event_type, {"id": clerk_id, "deleted": True})


def test_stamps_past_the_year_9999_count_as_unknown() -> None:
    organization = ClerkOrganization(
        id="org_acme", name="Acme", created_at=IN_A_DISTANT_YEAR, updated_at=IN_A_DISTANT_YEAR
    )
    member = membership_of("user_1", organization=organization, created_at=IN_A_DISTANT_YEAR)
    writer.write_memberships([member])

    assert Tenant.objects.values_list("clerk_created_at", "clerk_updated_at").get() == (None, None)
    assert Membership.objects.values_list("clerk_created_at").get() == (None,)
    deletions.record_membership_deleted(member.id, member)
    assert Membership.objects.values_list("clerk_created_at").get() == (None,)


def test_list_stamp_past_the_year_9999_in_a_row_is_answered(ada: Caller) -> None:
    ada.create("Acme")
    ada.create("Beta")
    Membership.objects.filter(tenant__name="Acme").update(clerk_created_at=IN_A_DISTANT_YEAR)

    answer = ada.tenants("?sync_from_clerk=false")

    assert sorted(tenant["name"] for tenant in answer.json()) == ["Acme", "Beta"]
    assert ada.get("/tenants/me/primary-id").status_code == 200


def test_memberships_in_one_batch_begin_again_only_if_their_own_event_is_newer_than_their_end() -> None:
    stamps = dict.fromkeys(("created_at", "updated_at"), 1_700_000_000_000)
    memberships = [membership_of(f"user_{number}", **stamps) for number in range(3)]
    writer.write_memberships(memberships)
    rows = Membership.objects.values_list("pk", flat=True)
    writer.end_memberships(list(rows), listed_at=writer.clock() + timedelta(seconds=1))
    now = time.time() * 1000

    registry.handle(
        ClerkEvent(
            type="organizationMembership.updated",
            data={
                "id": membership.id,
                "role": membership.role,
                "organization": {"id": ACME.id, "name": ACME.name, "updated_at": 1000},
                "public_user_data": {"user_id": membership.user_id},
                "created_at": 1_700_000_000_000,
                "updated_at": 1_700_000_000_000,
            },
            timestamp=round(now + seconds * 1000),
        )
        for membership, seconds in zip(memberships, (-3600, 120, 0), strict=True)
    )

    active = Membership.objects.filter(is_active=True)
    assert list(active.values_list("clerk_user_id", flat=True)) == ["user_1"]
