"""Real threads on real connections: what races leave behind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.db import connections

from clerk_integration.entities import ClerkOrganization
from tenants import sync
from tenants.models import CreationAttempt, Membership, Tenant
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)


def together(*actions: Callable[[], Any]) -> list[Any]:
    """Run the actions at the same moment, each in a thread with a connection of its own."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return action()
        finally:
            connections.close_all()

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


def test_pages_that_share_rows_in_opposite_order_do_not_deadlock() -> None:
    facts = [ClerkOrganization(id=f"org_{n:03}", name="a", created_at=1, updated_at=1) for n in range(200)]
    for stamp in range(2, 8):
        page = [ClerkOrganization(id=f.id, name=f"v{stamp}", created_at=1, updated_at=stamp) for f in facts]
        together(
            partial(sync.write_organizations, page),
            partial(sync.write_organizations, page[::-1]),
        )

    assert set(Tenant.objects.values_list("name", flat=True)) == {"v7"}
