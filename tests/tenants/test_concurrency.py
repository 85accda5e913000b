"""Real threads on real connections: what races leave behind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections, transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants import sync, transitions
from tenants.models import CreationAttempt, Membership, Tenant
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)


def in_own_connection(action: Callable[[], Any]) -> Any:
    try:
        return action()
    finally:
        connections.close_all()


def together(*actions: Callable[[], Any]) -> list[Any]:
    """Run the actions at the same moment, each in a thread with a connection of its own."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        barrier.wait()
        return in_own_connection(action)

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result() for future in [pool.submit(run, action) for action in actions]]


def test_two_creates_leave_two_tenants_and_one_primary(ada: Caller) -> None:
    one, two = together(lambda: ada.create("One"), lambda: ada.create("Two"))

    assert (one.status_code, two.status_code) == (201, 201)
    assert Tenant.objects.count() == 2
    assert Membership.objects.filter(is_primary=True).count() == 1


def test_two_creates_with_one_key_create_once(sandbox: SandboxControl, ada: Caller) -> None:
    sandbox.settings(latencyMs=100)

    def create() -> Any:
        return ada.request("POST", "/tenants/create", {"name": "Acme"}, **{"Idempotency-Key": "k"})

    answers = together(create, create, create)

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert CreationAttempt.objects.count() == Tenant.objects.count() == 1
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_syncs_of_one_user_list_clerk_once(sandbox: SandboxControl, ada: Caller) -> None:
    for number in range(3):
        sandbox.organization(f"Organization {number}", created_by=ada.id)
    sandbox.settings(latencyMs=200)

    answers = together(*[ada.tenants] * 4)

    assert sorted(answer.headers["X-Clerk-Sync"] for answer in answers) == ["fresh"] * 3 + ["synced"]
    assert [len(answer.json()) for answer in answers] == [3] * 4
    assert len(sandbox.requests()) == 1


def test_set_primary_racing_itself_leaves_one(ada: Caller, legacy: Callable[..., Tenant]) -> None:
    tenants = [legacy(f"Tenant {number}", {ada.id: "member"}) for number in range(4)]

    answers = together(
        *[lambda pk=tenant.pk: ada.request("PATCH", f"/tenants/{pk}/set-primary") for tenant in tenants * 2]
    )

    assert {answer.status_code for answer in answers} == {200}
    assert Membership.objects.filter(is_primary=True).count() == 1


def test_a_burial_racing_the_insertion_of_its_organization_always_wins() -> None:
    for number in range(20):
        organization = ClerkOrganization(id=f"org_{number}", name="Acme", created_at=1, updated_at=1)
        together(
            partial(sync.write_organizations, [organization]),
            partial(sync.bury_organization, organization.id),
        )

    assert not Tenant.objects.filter(deleted_at=None).exists()


def waiting_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_page_locks_its_rows_in_the_order_of_their_ids_whatever_order_it_came_in() -> None:
    page = [ClerkOrganization(id=f"org_{n:02}", name="a", created_at=1, updated_at=1) for n in range(20)]
    sync.write_organizations(page)
    newer = [replace(fact, name="b", updated_at=2) for fact in reversed(page)]

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Tenant.objects.select_for_update().get(clerk_org_id="org_10")
            writer = pool.submit(in_own_connection, partial(sync.write_organizations, newer))
            while not waiting_for_a_lock():
                assert not writer.done()
            free = Tenant.objects.select_for_update(skip_locked=True).order_by("clerk_org_id")
            not_locked_yet = list(free.values_list("clerk_org_id", flat=True))
        writer.result()

    assert not_locked_yet == [f"org_{n:02}" for n in range(10, 20)]
    assert set(Tenant.objects.values_list("name", flat=True)) == {"b"}


def test_a_primary_that_moves_while_its_user_is_synced_does_not_deadlock() -> None:
    facts = [
        ClerkMembership(
            id=f"orgmem_{n}",
            user_id="user_ada",
            role="org:admin",
            organization=ClerkOrganization(id=f"org_{n:03}", name="a", created_at=1, updated_at=1),
            created_at=1,
            updated_at=1,
        )
        for n in range(300)
    ]
    sync.write_memberships(facts)
    first, last = Tenant.objects.order_by("pk").first(), Tenant.objects.order_by("pk").last()
    assert first
    assert last

    def move() -> None:
        for tenant in [last, first] * 15:
            transitions.set_primary("user_ada", tenant)

    def write() -> None:
        for stamp in range(2, 17):
            sync.write_memberships([replace(fact, updated_at=stamp) for fact in facts])

    together(move, write)

    assert Membership.objects.filter(is_primary=True).get().tenant_id == first.pk
