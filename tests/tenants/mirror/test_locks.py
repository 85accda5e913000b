"""Locks: unchanged rows need none, deletions wait for their own organization, requests do not wait long."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.db import connection, connections, transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants.creation.installation import installation_id
from tenants.exceptions import AlreadyLinked
from tenants.lifecycle import link
from tenants.mirror import deletions, leases, locks, writer
from tenants.models import Membership, Tenant, Tombstone
from tests.tenants.conftest import Caller
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = 500


def membership_of(number: int, user_id: str = "user_ada") -> ClerkMembership:
    organization = ClerkOrganization(id=f"org_{number:03}", name="a", created_at=1, updated_at=1)
    return ClerkMembership(f"orgmem_{number}_{user_id}", user_id, "org:admin", organization, 1, 1)


def in_own_connection(action: Callable[[], Any]) -> Any:
    try:
        return action()
    finally:
        connections.close_all()


@contextmanager
def elsewhere(action: Callable[[], Any]) -> Iterator["Future[Any]"]:
    """Run the action in a thread with its own connection, and wait for it at the end of the block."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(in_own_connection, action)


def value(sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]


def lock_all_rows_without_waiting() -> int:
    """Lock all rows; raise OperationalError if another transaction has locked one of them."""
    with transaction.atomic():
        tenants = Tenant.objects.select_for_update(nowait=True)
        return len(tenants) + len(Membership.objects.select_for_update(nowait=True))


def list_organization(memberships: list[ClerkMembership]) -> None:
    writer.write_organization_listing(
        memberships[0].organization, memberships, listed_at=writer.clock(), complete=True
    )


@pytest.mark.parametrize("count", [1, 3, 9, PAGE])
def test_unchanged_page_writes_no_wal_and_locks_no_row(count: int) -> None:
    page = [membership_of(number) for number in range(count)]
    writer.write_memberships(page)
    written: set[int] = set()

    # Other tests write to the same server, some for seconds: one attempt without WAL shows that ours is none.
    for _ in range(1000):
        with transaction.atomic():
            before = value("SELECT pg_current_wal_insert_lsn()")
            assert writer.write_memberships(page) == writer.Written()
            written.add(value("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", before))
            # A transaction that has locked or written a row has an id.
            assert value("SELECT pg_current_xact_id_if_assigned()") is None
            with elsewhere(lock_all_rows_without_waiting) as pending:
                assert pending.result() == 2 * count
        if 0 in written:
            return
    pytest.fail(f"every attempt wrote WAL: {sorted(written)}")


def test_page_with_one_changed_row_locks_that_row_only() -> None:
    page = [membership_of(number) for number in range(9)]
    writer.write_memberships(page)

    def free() -> int:
        with transaction.atomic():
            return len(Membership.objects.select_for_update(skip_locked=True))

    with transaction.atomic():
        writer.write_memberships([*page[:4], replace(page[4], role="org:x", updated_at=2), *page[5:]])
        with elsewhere(free) as pending:
            assert pending.result() == 8


def number_of(clerk_id: str) -> int:
    return int(value("SELECT hashtext(%s) & %s", clerk_id, locks.LOCKS - 1))


DELETIONS: list[Callable[[ClerkMembership], None]] = [
    lambda membership: deletions.record_organization_deleted(
        membership.organization.id, source=Tombstone.Source.EVENT
    ),
    lambda membership: deletions.record_membership_deleted(membership.id, membership),
    lambda membership: deletions.record_membership_deleted(membership.id),
]


@pytest.mark.parametrize("deletion", DELETIONS)
def test_deletion_waits_for_a_writer_of_its_own_organization_only(
    deletion: Callable[[ClerkMembership], None],
) -> None:
    own = membership_of(0)
    other = next(
        candidate
        for candidate in map(membership_of, range(1, 9))
        if number_of(candidate.organization.id) != number_of(own.organization.id)
    )
    writer.write_memberships([own, other])

    with transaction.atomic():
        writer.write_memberships([replace(membership_of(0, "user_new"), role="org:member")])
        with elsewhere(partial(deletion, other)) as free:
            free.result(timeout=10)
        waiting = ThreadPoolExecutor(1)
        blocked = waiting.submit(in_own_connection, partial(deletion, own))
        wait_until(lambda: is_waiting_for_an_advisory_lock() or blocked.done())
        assert not blocked.done()
    blocked.result(timeout=10)
    waiting.shutdown()
    assert not Membership.objects.filter(clerk_user_id="user_ada", is_active=True).exists()


def is_waiting_for_an_advisory_lock(number: int | None = None) -> bool:
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND {})"
    return bool(value(waiting.format("true" if number is None else f"objid = {number}")))


def test_user_deleted_waits_for_a_writer_of_the_user_only() -> None:
    with transaction.atomic():
        writer.write_memberships([membership_of(0)])
        with elsewhere(partial(deletions.record_user_deleted, "user_grace")) as free:
            free.result(timeout=10)
        waiting = ThreadPoolExecutor(1)
        blocked = waiting.submit(in_own_connection, partial(deletions.record_user_deleted, "user_ada"))
        wait_until(lambda: is_waiting_for_an_advisory_lock() or blocked.done())
        assert not blocked.done()
    blocked.result(timeout=10)
    waiting.shutdown()
    assert not Membership.objects.get().is_active


def test_membership_deleted_without_an_organization_waits_for_all_writers() -> None:
    with transaction.atomic():
        writer.write_memberships([membership_of(0)])
        waiting = ThreadPoolExecutor(1)
        blocked = waiting.submit(
            in_own_connection, partial(deletions.record_membership_deleted, membership_of(0).id)
        )
        wait_until(lambda: is_waiting_for_an_advisory_lock() or blocked.done())
    blocked.result(timeout=10)
    waiting.shutdown()
    assert not Membership.objects.get().is_active


def test_link_beside_a_deletion_of_a_member_locks_no_row_before_it_waits() -> None:
    writer.write_memberships([membership_of(0)])
    tenant = Tenant.objects.create(name="Old")
    organization = membership_of(0).organization
    listed_at = writer.clock()

    with transaction.atomic():
        locks.hold_user("user_ada")
        linking = partial(
            link.link,
            tenant,
            organization,
            [membership_of(0)],
            listed_at=listed_at,
            complete=True,
            acting_user=None,
        )
        waiting = ThreadPoolExecutor(1)
        blocked = waiting.submit(in_own_connection, linking)
        wait_until(lambda: is_waiting_for_an_advisory_lock() or blocked.done())
        # A deadlock, if the link has locked the member's row.
        deletions.record_user_deleted("user_ada")
    blocked.result(timeout=10)
    waiting.shutdown()
    assert not Membership.objects.get().is_active


def test_unlink_beside_a_deletion_of_a_member_begins_no_membership() -> None:
    writer.write_memberships([membership_of(0)])
    tenant = Tenant.objects.get()

    with transaction.atomic():
        deletions.record_user_deleted("user_ada")
        waiting = ThreadPoolExecutor(1)
        blocked = waiting.submit(in_own_connection, partial(link.unlink, tenant, acting_user=None))
        wait_until(lambda: value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
    blocked.result(timeout=10)
    waiting.shutdown()
    assert Membership.objects.filter(is_active=False).count() == 2


def test_unlink_of_a_tenant_that_gets_another_organization_locks_that_organization_before_the_row() -> None:
    old, new = "org_0", next(f"org_{n}" for n in range(1, 99) if number_of(f"org_{n}") != number_of("org_0"))
    tenant = Tenant.objects.create(name="Acme", clerk_org_id=old)
    waiting = ThreadPoolExecutor(2)

    with transaction.atomic():
        locks.hold_organization(new)
        savepoint = transaction.savepoint()
        locks.hold_organization(old)
        blocked = waiting.submit(in_own_connection, partial(link.unlink, tenant, acting_user=None))
        wait_until(lambda: is_waiting_for_an_advisory_lock() or blocked.done())
        change = partial(Tenant.objects.filter(pk=tenant.pk).update, clerk_org_id=new)
        waiting.submit(in_own_connection, change).result(timeout=10)
        transaction.savepoint_rollback(savepoint)  # Releases `old`.
        wait_until(lambda: is_waiting_for_an_advisory_lock(number_of(new)) or blocked.done())
        # A deadlock, if the row was locked before the wait for `new`.
        assert lock_all_rows_without_waiting() == 1
    with pytest.raises(AlreadyLinked):
        blocked.result(timeout=10)
    waiting.shutdown()
    assert Tenant.objects.get(pk=tenant.pk).clerk_org_id == new


def test_write_links_tenants_with_marker_in_the_order_of_an_import() -> None:
    installation = str(installation_id())
    first, second = (Tenant.objects.create(name=name) for name in ("One", "Two"))
    organizations = [
        ClerkOrganization(
            id=clerk_org_id,
            name="a",
            updated_at=1,
            marker={"tenant": tenant.pk, "installation": installation},
        )
        for clerk_org_id, tenant in (("org_a", second), ("org_b", first))
    ]
    waiting = ThreadPoolExecutor(1)

    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=first.pk)
        blocked = waiting.submit(in_own_connection, partial(writer.write_organizations, organizations))
        wait_until(lambda: value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)") or blocked.done())
        # A deadlock, if the later tenant was locked before the wait for the first.
        assert list(Tenant.objects.select_for_update(nowait=True).filter(pk=second.pk)) == [second]
    blocked.result(timeout=10)
    waiting.shutdown()
    assert set(Tenant.objects.values_list("clerk_org_id", flat=True)) == {"org_a", "org_b"}


def test_end_memberships_beside_a_link_leaves_the_absorbed_members_alone() -> None:
    writer.write_memberships([membership_of(0)])
    absorbed, listed_at = Membership.objects.get().pk, writer.clock()
    tenant, organization = Tenant.objects.create(name="Old"), membership_of(0).organization

    with transaction.atomic():
        link.link(
            tenant, organization, [membership_of(0)], listed_at=listed_at, complete=True, acting_user=None
        )
        waiting = ThreadPoolExecutor(1)
        ending = partial(writer.end_memberships, [absorbed], listed_at=listed_at)
        blocked = waiting.submit(in_own_connection, ending)
        wait_until(lambda: value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
    assert blocked.result(timeout=10) == 0
    waiting.shutdown()
    assert Membership.objects.get().is_active


@pytest.mark.parametrize("members", [1, 3, 9])
def test_link_locks_the_primaries_of_all_members_of_the_absorbed_tenant(members: int) -> None:
    memberships = [membership_of(0, f"user_{number}") for number in range(members)]
    writer.write_memberships(memberships)
    Membership.objects.update(is_primary=True)
    tenant = Tenant.objects.create(name="Old")

    organization = memberships[0].organization
    link.link(tenant, organization, memberships, listed_at=writer.clock(), complete=True, acting_user=None)

    assert Membership.objects.filter(tenant=tenant, is_primary=True).count() == members


@pytest.mark.slow
@pytest.mark.parametrize("model", [Tenant, Membership])
def test_list_beside_an_idle_transaction_is_stale_after_2_s(ada: Caller, model: Any) -> None:
    ada.create("Acme")
    leases.expire(ada.id)
    Tenant.objects.update(name="changed here")
    Membership.objects.update(role="org:changed_here")

    with transaction.atomic():
        list(model.objects.select_for_update())
        begun = time.monotonic()
        with elsewhere(ada.tenants) as pending:
            answer = pending.result()
        seconds = time.monotonic() - begun

    assert (answer.status_code, answer.headers["X-Clerk-Sync"]) == (200, "stale")
    assert [tenant["name"] for tenant in answer.json()] == ["changed here"]
    assert 1.9 < seconds < 5
