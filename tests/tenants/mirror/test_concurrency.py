"""Writers at the same time: real threads on real connections."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.organizations import get_clerk_org
from tenants import signals
from tenants.files.imports import import_tenants
from tenants.lifecycle import link, primary
from tenants.mirror import deletions, leases, locks, writer
from tenants.models import CreationAttempt, Membership, SyncRun, SyncRunPage, Tenant, Tombstone
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

Receiver = Callable[..., None]


def in_own_connection(action: Callable[[], Any]) -> Any:
    try:
        return action()
    finally:
        connections.close_all()


def together(*actions: Callable[[], Any]) -> list[Any]:
    """Run the actions at the same time, each in a thread with its own connection."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        barrier.wait()
        return in_own_connection(action)

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result() for future in [pool.submit(run, action) for action in actions]]


def test_create_twice_at_once_leaves_two_tenants_and_one_primary(ada: Caller) -> None:
    one, two = together(lambda: ada.create("One"), lambda: ada.create("Two"))

    assert (one.status_code, two.status_code) == (201, 201)
    assert Tenant.objects.count() == 2
    assert Membership.objects.filter(is_primary=True).count() == 1


def test_create_with_one_key_at_once_creates_once(sandbox: SandboxControl, ada: Caller) -> None:
    sandbox.settings(latencyMs=100)

    def create() -> Any:
        return ada.request("POST", "/tenants/create", {"name": "Acme"}, **{"Idempotency-Key": "k"})

    answers = together(create, create, create)

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert CreationAttempt.objects.count() == Tenant.objects.count() == 1
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_list_of_one_user_at_once_asks_clerk_once(sandbox: SandboxControl, ada: Caller) -> None:
    for number in range(3):
        sandbox.organization(f"Organization {number}", created_by=ada.id)
    sandbox.settings(latencyMs=200)

    answers = together(*[ada.tenants] * 4)

    assert sorted(answer.headers["X-Clerk-Sync"] for answer in answers) == ["fresh"] * 3 + ["synced"]
    assert [len(answer.json()) for answer in answers] == [3] * 4
    assert len(sandbox.requests()) == 1


def test_set_primary_at_once_leaves_one_primary(ada: Caller, legacy: Callable[..., Tenant]) -> None:
    tenants = [legacy(f"Tenant {number}", {ada.id: "member"}) for number in range(4)]

    answers = together(
        *[lambda pk=tenant.pk: ada.request("PATCH", f"/tenants/{pk}/set-primary") for tenant in tenants * 2]
    )

    assert {answer.status_code for answer in answers} == {200}
    assert Membership.objects.filter(is_primary=True).count() == 1


def test_organization_deleted_while_it_is_inserted_stays_deleted() -> None:
    for number in range(20):
        organization = ClerkOrganization(id=f"org_{number}", name="Acme", created_at=1, updated_at=1)
        together(
            partial(writer.write_organizations, [organization]),
            partial(deletions.record_organization_deleted, organization.id, source=Tombstone.Source.EVENT),
        )

    assert not Tenant.objects.filter(deleted_at=None).exists()


def waiting_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def test_page_in_any_order_locks_its_rows_in_the_order_of_their_ids() -> None:
    page = [ClerkOrganization(id=f"org_{n:02}", name="a", created_at=1, updated_at=1) for n in range(20)]
    writer.write_organizations(page)
    newer = [replace(record, name="b", updated_at=2) for record in reversed(page)]

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Tenant.objects.select_for_update().get(clerk_org_id="org_10")
            pending = pool.submit(in_own_connection, partial(writer.write_organizations, newer))
            while not waiting_for_a_lock():
                assert not pending.done()
            free = Tenant.objects.select_for_update(skip_locked=True).order_by("clerk_org_id")
            not_locked_yet = list(free.values_list("clerk_org_id", flat=True))
        pending.result()

    assert not_locked_yet == [f"org_{n:02}" for n in range(10, 20)]
    assert set(Tenant.objects.values_list("name", flat=True)) == {"b"}


def membership_of(number: int, user_id: str = "user_ada") -> ClerkMembership:
    return ClerkMembership(
        id=f"orgmem_{number}_{user_id}",
        user_id=user_id,
        role="org:admin",
        organization=ClerkOrganization(id=f"org_{number:03}", name="a", created_at=1, updated_at=1),
        created_at=1,
        updated_at=1,
    )


def list_user(shown: list[ClerkMembership]) -> None:
    lease = leases.take_lease("user_ada", seconds=60).lease
    assert lease
    writer.write_user_listing("user_ada", shown, lease=lease.id, listed_at=lease.listed_at, complete=True)


def list_organization(shown: list[ClerkMembership]) -> None:
    writer.write_organization_listing(
        membership_of(0).organization, shown, listed_at=writer.clock(), complete=True
    )


@pytest.mark.parametrize("shown_are", ["first", "last"])
@pytest.mark.parametrize("listing", [list_user, list_organization])
def test_listing_locks_the_rows_that_it_writes_and_ends_in_one_order(
    listing: Callable[[list[ClerkMembership]], None], shown_are: str
) -> None:
    """Otherwise it could deadlock with another writer of the same rows, such as set-primary."""
    of_user = listing is list_user
    records = [membership_of(n) if of_user else membership_of(0, f"user_{n:03}") for n in range(20)]
    writer.write_memberships(records)
    changed = [replace(record, role="org:member", updated_at=2) for record in records]
    rows = Membership.objects.order_by("tenant_id", "clerk_user_id")
    order = list(rows.values_list("pk", flat=True))

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            rows.select_for_update().get(pk=order[5])
            shown = changed[:10] if shown_are == "first" else changed[10:]
            pending = pool.submit(in_own_connection, partial(listing, shown))
            while not waiting_for_a_lock():
                assert not pending.done()
            free = rows.select_for_update(skip_locked=True).values_list("pk", flat=True)
            not_locked_yet = list(free)
        pending.result()

    assert not_locked_yet == order[5:]
    assert set(rows.filter(is_active=True).values_list("clerk_membership_id", flat=True)) == {
        record.id for record in shown
    }


def test_membership_page_new_organization_is_written_before_any_member_is_locked() -> None:
    """Otherwise it could deadlock with the writer that inserts the organization and needs that member."""
    writer.write_memberships([membership_of(0)])
    run = SyncRun.objects.create(kind=SyncRun.Kind.FULL_SYNC, holder="us")
    page = SyncRunPage(run=run, listing="memberships", pass_number=1, offset=0, total=2, skipped=0)
    page.ids = ["orgmem_0", "orgmem_9"]
    shown = [replace(membership_of(0), role="org:member", updated_at=2), membership_of(9)]

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            writer.write_organizations([shown[1].organization])
            pending = pool.submit(in_own_connection, partial(writer.write_membership_page, page, shown))
            while not waiting_for_a_lock():
                assert not pending.done()
            assert Membership.objects.select_for_update(skip_locked=True).count() == 1
        pending.result()

    assert Membership.objects.filter(is_active=True).count() == 2


def test_listing_membership_written_meanwhile_does_not_end() -> None:
    writer.write_memberships([membership_of(0)])
    newer = replace(membership_of(0), role="org:member", updated_at=2)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            writer.write_memberships([newer])
            pending = pool.submit(in_own_connection, partial(list_user, []))
            while not waiting_for_a_lock():
                assert not pending.done()
        pending.result()

    assert Membership.objects.values_list("role", "is_active").get() == ("org:member", True)


def test_write_new_organization_at_once_is_announced_once() -> None:
    received: list[str] = []
    linked: Receiver = lambda signal, sender, **what: received.append("linked")  # noqa: E731
    updated: Receiver = lambda signal, sender, **what: received.append(str(what["changes"]["name"]))  # noqa: E731
    signals.tenant_linked.connect(linked)
    signals.tenant_updated.connect(updated)
    first = ClerkOrganization(id="org_new", name="First", created_at=1, updated_at=1)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert writer.write_organizations([first]) == writer.Written(created=1)
            second = [replace(first, name="Second", updated_at=2)]
            pending = pool.submit(in_own_connection, partial(writer.write_organizations, second))
            while not waiting_for_a_lock():
                assert not pending.done()
        assert pending.result() == writer.Written(updated=1)

    signals.tenant_linked.disconnect(linked)
    signals.tenant_updated.disconnect(updated)
    assert sorted(received) == ["(None, 'Second')", "linked"]


@pytest.mark.slow
def test_deletion_writer_of_its_organization_stopped_waits_until_the_writer_is_ended() -> None:
    taken, done = Event(), Event()

    def stand_still() -> None:
        with transaction.atomic():
            locks.share(organizations=["org_gone"])
            taken.set()
            done.wait(60)

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(in_own_connection, stand_still)
        taken.wait()
        deletions.record_organization_deleted("org_gone", source=Tombstone.Source.EVENT)
        done.set()
        assert isinstance(stopped.exception(), DatabaseError)

    assert Tombstone.objects.get().clerk_id == "org_gone"


def test_set_primary_while_its_user_is_synced_does_not_deadlock() -> None:
    records = [membership_of(n) for n in range(300)]
    writer.write_memberships(records)
    first, last = Tenant.objects.order_by("pk").first(), Tenant.objects.order_by("pk").last()
    assert first
    assert last

    def move() -> None:
        for tenant in [last, first] * 15:
            primary.set_primary("user_ada", tenant)

    def write() -> None:
        for stamp in range(2, 17):
            writer.write_memberships([replace(record, updated_at=stamp) for record in records])

    together(move, write)

    assert Membership.objects.filter(is_primary=True).get().tenant_id == first.pk


def test_link_import_adding_members_to_its_tenant_waits_for_the_import(
    sandbox: SandboxControl, tmp_path: Path
) -> None:
    path = tmp_path / "tenants.csv"
    path.write_text("external_id,name,user_id,role\na1,Old,user_1,owner\nb2,Acme,user_2,owner\n")
    first = Tenant.objects.create(name="Old", external_id="a1")
    tenant = Tenant.objects.create(name="Acme", external_id="b2")
    organization = get_clerk_org(sandbox.organization("Acme", sandbox.user()["id"])["id"])

    def link_tenant() -> bool:
        """Link the tenant, and return whether its member was there by then."""
        link.link(tenant, organization, [], listed_at=writer.clock(), complete=False, acting_user=None)
        return Membership.objects.filter(tenant=tenant).exists()

    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic():  # The import meets this member first, and waits with its snapshot taken.
            Membership.objects.create(tenant=first, clerk_user_id="user_1", role="owner")
            importing = pool.submit(
                in_own_connection,
                lambda: import_tenants(path, stopping=Event(), advance=lambda lines: None),
            )
            wait_until(lambda: count_waiting() == 1)
            linking = pool.submit(in_own_connection, link_tenant)
            wait_until(lambda: count_waiting() == 2 or linking.done())
        assert importing.result().members_created == 1
        assert linking.result()


def count_waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE datname = current_database() AND NOT granted"
        )
        return int(cursor.fetchone()[0])
