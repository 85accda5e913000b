"""The write rule: records that come late, twice and in any order."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models.functions import Now

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants import signals
from tenants.creation.create import adopt_organization
from tenants.lifecycle import delete, link
from tenants.mirror import deletions, leases, writer
from tenants.models import Membership, Tenant, Tombstone
from tests.tenants.api.test_statement_counts import statements

pytestmark = pytest.mark.django_db

ACME = ClerkOrganization(
    id="org_acme", name="Acme", slug="acme", public_metadata={"plan": "pro"}, created_at=1000, updated_at=1000
)
ADA = ClerkMembership(
    id="orgmem_1", user_id="user_ada", role="org:admin", organization=ACME, created_at=1000, updated_at=1000
)


def mirrored(clerk_org_id: str = ACME.id) -> tuple[Any, ...]:
    return Tenant.objects.values_list("name", "slug", "status", "clerk_updated_at").get(
        clerk_org_id=clerk_org_id
    )


def membership() -> tuple[Any, ...]:
    return Membership.objects.values_list("clerk_membership_id", "role", "is_active").get()


def versions(table: str) -> list[str]:
    """The physical versions of a table's rows: any write changes them."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT ctid::text FROM {table} ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def test_write_organizations_new_is_inserted() -> None:
    assert writer.write_organizations([ACME]) == writer.Written(created=1)

    tenant = Tenant.objects.get()
    assert (tenant.clerk_org_id, tenant.name, tenant.clerk_metadata) == ("org_acme", "Acme", {"plan": "pro"})
    assert tenant.last_synced_at is not None


def test_write_organizations_older_record_changes_nothing() -> None:
    writer.write_organizations([replace(ACME, name="New", updated_at=2000)])

    assert writer.write_organizations([ACME]) == writer.Written()
    assert mirrored()[0] == "New"


def test_write_organizations_equal_stamp_heals() -> None:
    writer.write_organizations([ACME])
    Tenant.objects.update(name="damaged")

    assert writer.write_organizations([ACME]) == writer.Written(updated=1)
    assert mirrored()[0] == "Acme"


def test_write_memberships_unchanged_rows_are_not_written() -> None:
    writer.write_memberships([ADA])
    before = versions("tenants"), versions("memberships")

    writer.write_memberships([ADA])

    assert (versions("tenants"), versions("memberships")) == before


def test_write_organizations_leaves_own_columns_alone() -> None:
    writer.write_organizations([ACME])
    Tenant.objects.update(status="suspended", suspension_reason="unpaid")

    writer.write_organizations([replace(ACME, name="New", updated_at=2000)])

    assert mirrored() == ("New", "acme", "suspended", 2000)
    assert Tenant.objects.get().suspension_reason == "unpaid"


def test_write_organizations_swapped_slugs_arrive_in_any_order() -> None:
    other = ClerkOrganization(id="org_beta", name="Beta", slug="beta", created_at=1, updated_at=1)
    writer.write_organizations([ACME, other])

    writer.write_organizations([replace(ACME, slug="beta", updated_at=3000)])
    writer.write_organizations([replace(other, slug="acme", updated_at=2000)])

    assert (mirrored("org_acme")[1], mirrored("org_beta")[1]) == ("beta", "acme")


def test_write_organizations_twice_in_a_page_keeps_the_newest() -> None:
    newer = replace(ACME, name="New", updated_at=2000)

    writer.write_organizations([newer, ACME])

    assert mirrored()[0] == "New"


def test_write_organizations_deleted_organization_stays_deleted() -> None:
    writer.write_memberships([ADA])
    deletions.record_organization_deleted(ACME.id, source=Tombstone.Source.EVENT)

    writer.write_memberships([replace(ADA, organization=replace(ACME, name="Zombie", updated_at=9000))])

    assert mirrored() == ("Acme", "acme", "deactivated", 1000)
    assert Tenant.objects.get().deleted_at is not None
    assert membership() == ("orgmem_1", "org:admin", False)


def test_write_organizations_deleted_before_it_was_seen_is_not_inserted() -> None:
    deletions.record_organization_deleted(ACME.id, source=Tombstone.Source.EVENT)

    writer.write_memberships([ADA])

    assert not Tenant.objects.exists()
    assert Tombstone.objects.filter(kind="organization", clerk_id=ACME.id).exists()


def test_write_memberships_of_a_deleted_user_inserts_nothing() -> None:
    deletions.record_user_deleted(ADA.user_id)

    writer.write_memberships([ADA])

    assert not Membership.objects.exists()


def test_record_user_deleted_leaves_legacy_memberships_alone(legacy: Callable[..., Tenant]) -> None:
    writer.write_memberships([ADA])
    old = legacy(members={ADA.user_id: "owner"})

    deletions.record_user_deleted(ADA.user_id)

    active = Membership.objects.filter(is_active=True).values_list("tenant_id", flat=True)
    assert list(active) == [old.pk]


REJOINED = replace(ADA, id="orgmem_2", role="org:member", created_at=5000, updated_at=5000)

FACTS: list[tuple[str, Callable[[], Any]]] = [
    ("created", lambda: writer.write_memberships([ADA])),
    ("role changed", lambda: writer.write_memberships([replace(ADA, role="org:member", updated_at=2000)])),
    (
        "left",
        lambda: deletions.record_membership_deleted(ADA.id, replace(ADA, role="org:member", updated_at=2000)),
    ),
    ("rejoined", lambda: writer.write_memberships([REJOINED])),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(FACTS)))))
def test_membership_left_and_rejoined_ends_the_same_in_any_order(order: tuple[int, ...]) -> None:
    for index in (*order, order[0]):
        FACTS[index][1]()

    assert membership() == ("orgmem_2", "org:member", True)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_membership_left_ends_in_any_order(order: tuple[int, ...]) -> None:
    for index in (*order, order[0]):
        FACTS[index][1]()

    assert not Membership.objects.filter(is_active=True).exists()


def test_record_membership_deleted_leaves_a_newer_membership_alone() -> None:
    writer.write_memberships([REJOINED])

    deletions.record_membership_deleted(ADA.id, ADA)

    assert membership() == ("orgmem_2", "org:member", True)


def test_organization_listing_ends_the_memberships_that_it_lacks(legacy: Callable[..., Tenant]) -> None:
    writer.write_memberships([ADA])
    listed_at = writer.clock()

    writer.write_organization_listing(ACME, [], listed_at=listed_at, complete=True)

    assert membership()[2] is False


@pytest.mark.parametrize(
    ("complete", "begun_before"),
    [(False, timedelta(0)), (True, timedelta(hours=1))],
    ids=["incomplete", "begun before the row was written"],
)
def test_organization_listing_incomplete_or_old_ends_nothing(complete: bool, begun_before: timedelta) -> None:
    writer.write_memberships([ADA])
    listed_at = writer.clock() - begun_before

    writer.write_organization_listing(ACME, [], listed_at=listed_at, complete=complete)

    assert membership()[2] is True


@pytest.mark.parametrize(
    ("skipped_id", "stored_id", "is_active"),
    [("orgmem_other", ADA.id, False), (ADA.id, ADA.id, True), ("orgmem_other", None, True)],
    ids=["another membership", "this membership", "a membership whose id is unknown here"],
)
def test_organization_listing_with_an_unreadable_record_ends_what_cannot_be_that_record(
    skipped_id: str, stored_id: str | None, is_active: bool
) -> None:
    writer.write_memberships([ADA])
    Membership.objects.update(clerk_membership_id=stored_id)

    writer.write_organization_listing(
        ACME, [], listed_at=writer.clock(), complete=True, skipped_ids=[skipped_id]
    )

    assert membership()[2] is is_active


OTHER = replace(ACME, id="org_other", name="Other")

LISTINGS: dict[str, Callable[[], None]] = {
    "of the organization": lambda: writer.write_organization_listing(
        ACME, [], listed_at=writer.clock(), complete=True
    ),
    "of the user": lambda: list_user("user_old", []),
}


def list_user(clerk_user_id: str, memberships: list[ClerkMembership]) -> None:
    lease = leases.take_lease(clerk_user_id, seconds=60).lease
    assert lease is not None
    writer.write_user_listing(
        clerk_user_id, memberships, lease=lease.id, listed_at=lease.listed_at, complete=True
    )


@pytest.mark.parametrize("role", ["owner", "org:admin"])
@pytest.mark.parametrize("listing", LISTINGS)
def test_listing_leaves_local_members_alone_whatever_their_role(listing: str, role: str) -> None:
    """After an import or an unlink, local members may have roles as Clerk spells them."""
    writer.write_organizations([ACME])
    Membership.objects.create(tenant=Tenant.objects.get(), clerk_user_id="user_old", role=role)

    LISTINGS[listing]()

    assert Membership.objects.get().is_active


def test_link_after_unlink_keeps_the_members_of_the_first_organization() -> None:
    writer.write_memberships([ADA])
    tenant = link.unlink(Tenant.objects.get(), acting_user=None)

    link.link(tenant, OTHER, [], listed_at=writer.clock(), complete=True, acting_user=None)

    assert Membership.objects.get(tenant=tenant).is_active


@pytest.mark.parametrize("created_at", [1000, None], ids=["dated", "undated"])
@pytest.mark.parametrize("listing", LISTINGS)
def test_listing_ends_a_creator_whom_it_lacks(listing: str, created_at: int | None) -> None:
    organization = replace(ACME, created_at=created_at)
    adopt_organization("user_old", organization, None, "org:admin")

    LISTINGS[listing]()

    assert not Membership.objects.get().is_active


@pytest.mark.parametrize("listing", LISTINGS)
def test_listing_after_the_clock_was_set_back_ends_a_row_of_the_future_that_it_lacks(listing: str) -> None:
    writer.write_memberships([replace(ADA, user_id="user_old")])
    Membership.objects.update(written_at=Now() + timedelta(hours=1))

    LISTINGS[listing]()

    assert not Membership.objects.get().is_active


def test_listing_read_while_the_clock_was_set_back_ends_no_row_that_was_written_since() -> None:
    writer.write_memberships([ADA])
    listed_at = writer.clock() + timedelta(hours=1)
    Membership.objects.update(written_at=listed_at + timedelta(seconds=1))

    writer.write_organization_listing(ACME, [], listed_at=listed_at, complete=True)

    assert membership()[2] is True


def test_listing_gives_a_creator_without_an_id_their_membership() -> None:
    adopt_organization(ADA.user_id, ACME, None, "org:member")

    list_user(ADA.user_id, [ADA])

    assert membership() == ("orgmem_1", "org:admin", True)


def test_record_user_deleted_of_a_creator_ends_the_membership_in_any_order() -> None:
    adopt_organization(ADA.user_id, ACME, None, "org:admin")
    deletions.record_user_deleted(ADA.user_id)
    adopt_organization(ADA.user_id, OTHER, None, "org:admin")

    assert not Membership.objects.filter(is_active=True).exists()


def test_listing_of_a_user_who_rejoined_shows_the_new_membership() -> None:
    writer.write_memberships([ADA])

    list_user(ADA.user_id, [REJOINED])

    assert membership() == ("orgmem_2", "org:member", True)


def test_user_listing_without_its_lease_ends_nothing() -> None:
    writer.write_memberships([ADA])

    writer.write_user_listing("user_ada", [], lease=uuid4(), listed_at=writer.clock(), complete=True)

    assert membership()[2] is True


def test_write_memberships_read_before_the_end_does_not_begin_it_again() -> None:
    writer.write_memberships([ADA])
    before = writer.clock()
    writer.write_organization_listing(ACME, [], listed_at=writer.clock(), complete=True)

    writer.write_memberships([ADA], as_of=before)
    writer.write_memberships([replace(ADA, role="org:member", updated_at=2000)], as_of=before)
    assert membership()[2] is False

    writer.write_memberships([ADA], as_of=writer.clock())
    assert membership()[2] is True, "a later listing heals"


def test_write_memberships_read_before_a_creator_left_does_not_begin_it_again() -> None:
    adopt_organization(ADA.user_id, ACME, None, "org:admin")
    before = writer.clock()
    list_user(ADA.user_id, [])

    writer.write_memberships([ADA], as_of=before)

    assert not membership()[2]


def test_link_keeps_newer_values_of_the_absorbed_tenant(legacy: Callable[..., Tenant]) -> None:
    tenant = legacy(members={ADA.user_id: "owner"})
    ended = replace(ADA, id="orgmem_9", user_id="user_grace")
    writer.write_memberships([ADA, ended])
    writer.write_organizations([replace(ACME, name="Newer", updated_at=5000)])
    before = writer.clock()
    writer.write_organization_listing(ACME, [ADA], listed_at=writer.clock(), complete=True)

    link.link(tenant, ACME, [ADA, ended], listed_at=before, complete=True, acting_user=None)

    assert Tenant.objects.get().name == "Newer"
    active = Membership.objects.filter(is_active=True).values_list("clerk_user_id", flat=True)
    assert list(active) == [ADA.user_id]


def test_link_many_members_takes_as_many_statements_as_one(legacy: Callable[..., Tenant]) -> None:
    taken = []
    for count in (1, 40):
        organization = replace(ACME, id=f"org_{count}")
        members = [
            replace(ADA, id=f"orgmem_{count}_{n}", user_id=f"user_{n}", organization=organization)
            for n in range(count)
        ]
        writer.write_memberships(members)
        tenant = legacy(members={"user_0": "owner"})
        with statements() as collected:
            link.link(
                tenant, organization, members, listed_at=writer.clock(), complete=True, acting_user=None
            )
        taken.append(len(collected))
        assert tenant.memberships.filter(is_active=True).count() == count

    assert taken[0] == taken[1]


def test_link_after_unlink_takes_the_values_of_the_new_organization(
    legacy: Callable[..., Tenant],
) -> None:
    other = replace(ACME, id="org_other", name="Other", updated_at=10)
    tenant = legacy()
    link.link(tenant, ACME, [ADA], listed_at=writer.clock(), complete=True, acting_user=None)
    link.unlink(tenant, acting_user=None)

    link.link(tenant, other, [], listed_at=writer.clock(), complete=True, acting_user=None)

    assert mirrored("org_other")[0] == "Other"
    assert mirrored(ACME.id)[0] == "Acme", "it is still mirrored, by its own row"
    assert Membership.objects.filter(clerk_membership_id=ADA.id).get().tenant.clerk_org_id == ACME.id


def test_delete_leaves_a_tombstone_of_the_organization() -> None:
    writer.write_memberships([ADA])

    delete.delete(Tenant.objects.get(), acting_user=None)
    writer.write_memberships([ADA])

    assert not Tenant.objects.exists()


@pytest.fixture
def received() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The signals that were sent: name and arguments."""
    sent: list[tuple[str, dict[str, Any]]] = []

    def listen(name: str) -> Callable[..., None]:
        return lambda signal, sender, **what: sent.append((name, what))

    names = ["tenant_linked", "tenant_updated", "tenant_deactivated", "membership_changed"]
    receivers = [(getattr(signals, name), listen(name)) for name in names]
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)
    yield sent
    for signal, receiver in receivers:
        signal.disconnect(receiver)


@pytest.mark.parametrize("with_receivers", [False, True])
def test_write_memberships_returns_the_same_counts_with_and_without_receivers(
    request: pytest.FixtureRequest, with_receivers: bool
) -> None:
    if with_receivers:
        request.getfixturevalue("received")
    page = [replace(ADA, id=f"orgmem_{n}", user_id=f"user_{n}") for n in range(9)]

    assert writer.write_memberships([]) == writer.Written()
    assert writer.write_memberships(page[:3]) == writer.Written(created=3)
    page[0] = replace(page[0], role="org:member")
    assert writer.write_memberships(page) == writer.Written(created=6, updated=1)
    assert writer.write_memberships(page) == writer.Written()


@pytest.mark.django_db(transaction=True)
def test_signals_are_sent_after_commit_with_the_changes(
    received: list[tuple[str, dict[str, Any]]],
) -> None:
    writer.write_memberships([ADA])
    writer.write_organizations([replace(ACME, name="New", updated_at=2000)])
    writer.write_organizations([replace(ACME, name="New", updated_at=2000)])
    deletions.record_organization_deleted(ACME.id, source=Tombstone.Source.EVENT)
    with transaction.atomic():
        writer.write_organizations([replace(ACME, id="org_undone")])
        transaction.set_rollback(True)

    tenant = Tenant.objects.get()
    about = {"tenant_id": tenant.pk, "clerk_org_id": ACME.id}
    member = {"tenant_id": tenant.pk, "clerk_user_id": ADA.user_id}
    assert received == [
        ("tenant_linked", about),
        (
            "membership_changed",
            {**member, "changes": {"role": (None, "org:admin"), "is_active": (None, True)}},
        ),
        ("tenant_updated", {**about, "changes": {"name": ("Acme", "New")}}),
        (
            "tenant_deactivated",
            {
                **about,
                "changes": {"status": ("active", "deactivated"), "deleted_at": (None, tenant.deleted_at)},
            },
        ),
        ("membership_changed", {**member, "changes": {"is_active": (True, False)}}),
    ]


@pytest.mark.django_db(transaction=True)
def test_signals_link_and_unlink_are_sent_with_the_changes(
    received: list[tuple[str, dict[str, Any]]], legacy: Callable[..., Tenant]
) -> None:
    writer.write_memberships([ADA])
    tenant = legacy("Old", {"user_old": "owner"})
    received.clear()

    link.link(tenant, ACME, [ADA], listed_at=writer.clock(), complete=True, acting_user=None)

    about = {"tenant_id": tenant.pk, "clerk_org_id": ACME.id}
    began = {"role": (None, "org:admin"), "is_active": (None, True)}
    [linked, updated, joined] = received
    assert linked == ("tenant_linked", about)
    assert (updated[0], updated[1]["changes"]["name"]) == ("tenant_updated", ("Old", "Acme"))
    assert joined[1] == {"tenant_id": tenant.pk, "clerk_user_id": ADA.user_id, "changes": began}
    received.clear()

    link.unlink(tenant, acting_user=None)

    mirror = Tenant.objects.get(clerk_org_id=ACME.id)
    assert received == [
        (
            "tenant_updated",
            {"tenant_id": tenant.pk, "clerk_org_id": None, "changes": {"clerk_org_id": (ACME.id, None)}},
        ),
        ("tenant_linked", {**about, "tenant_id": mirror.pk}),
        ("membership_changed", {"tenant_id": mirror.pk, "clerk_user_id": ADA.user_id, "changes": began}),
    ]
