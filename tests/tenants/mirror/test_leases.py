"""The lease under which one process at a time lists a user's memberships."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import F
from django.db.models.functions import Now

from tenants.mirror import leases, writer
from tenants.models import UserSync
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db


NOT_FREE = leases.LeaseState(is_fresh=False, is_backing_off=False, lease=None)


def test_take_lease_held_is_refused_until_it_is_released_and_some_seconds_have_passed() -> None:
    first = leases.take_lease("user_1", seconds=60)
    assert first.lease is not None
    assert leases.take_lease("user_1", seconds=60) == NOT_FREE

    leases.release_lease("user_1", first.lease)
    assert leases.take_lease("user_1", seconds=60) == replace(NOT_FREE, is_backing_off=True)
    back_off = timedelta(seconds=leases.BACK_OFF_SECONDS)
    UserSync.objects.update(lease_expires_at=F("lease_expires_at") - back_off)

    assert leases.take_lease("user_1", seconds=60).lease is not None


def test_list_after_a_failed_list_is_stale_at_once_without_asking_clerk(
    sandbox: SandboxControl, ada: Caller
) -> None:
    sandbox.fault("GET /v1/users/*", status=500, times=9)

    answers = [ada.tenants() for _ in range(3)]

    assert [answer.headers["X-Clerk-Sync"] for answer in answers] == ["stale"] * 3
    assert len({call["path"] for call in sandbox.requests()}) == 1
    first_only = len(sandbox.requests())
    ada.tenants()
    assert len(sandbox.requests()) == first_only


def test_take_lease_expired_is_granted_again() -> None:
    held = leases.take_lease("user_1", seconds=60)
    assert held.lease is not None
    UserSync.objects.update(lease_expires_at=F("lease_expires_at") - timedelta(seconds=61))

    taken = leases.take_lease("user_1", seconds=60)
    assert taken.lease is not None

    writer.write_user_listing(
        "user_1", [], lease=held.lease.id, listed_at=held.lease.listed_at, complete=True
    )
    assert UserSync.objects.get().lease == taken.lease.id, "a lost lease closes no other"
    assert UserSync.objects.get().synced_at is None


def test_take_lease_lasts_for_the_given_seconds() -> None:
    leases.take_lease("user_1", seconds=100)

    remaining = UserSync.objects.get().lease_expires_at - writer.clock()  # type: ignore[operator]
    assert 90 < remaining.total_seconds() <= 100


def test_take_lease_after_the_clock_was_set_back_is_granted_if_the_listing_is_in_the_future() -> None:
    UserSync.objects.create(clerk_user_id="user_1", synced_at=Now() + timedelta(hours=1))

    state = leases.take_lease("user_1", seconds=60)

    assert state.lease is not None
    assert not state.is_fresh


@pytest.mark.parametrize("lease", [uuid4(), None], ids=["held", "backing off"])
def test_take_lease_after_the_clock_was_set_back_is_granted_if_the_lease_ends_too_late(lease: Any) -> None:
    expires_at = Now() + timedelta(hours=1)
    UserSync.objects.create(clerk_user_id="user_1", lease=lease, lease_expires_at=expires_at)

    assert leases.take_lease("user_1", seconds=60).lease is not None


def test_list_after_the_clock_was_set_back_asks_clerk(sandbox: SandboxControl, ada: Caller) -> None:
    organization = sandbox.organization("Acme", created_by=sandbox.user()["id"])
    sandbox.membership(organization["id"], ada.id, "org:admin")
    assert ada.tenants().headers["X-Clerk-Sync"] == "synced"
    sandbox.api("DELETE", f"/organizations/{organization['id']}/memberships/{ada.id}")
    UserSync.objects.update(synced_at=Now() + timedelta(hours=1))

    listed = ada.tenants()

    assert (listed.headers["X-Clerk-Sync"], listed.json()) == ("synced", [])
    assert ada.tenants().headers["X-Clerk-Sync"] == "fresh"


def test_expire_makes_a_fresh_listing_stale() -> None:
    lease = leases.take_lease("user_1", seconds=60).lease
    assert lease is not None
    writer.write_user_listing("user_1", [], lease=lease.id, listed_at=lease.listed_at, complete=True)
    assert leases.take_lease("user_1", seconds=60).is_fresh

    leases.expire("user_1")

    assert leases.take_lease("user_1", seconds=60).lease is not None


def test_expire_while_a_listing_runs_leaves_it_stale() -> None:
    """A create lost its reply meanwhile: the data of the listing may be stale."""
    running = leases.take_lease("user_1", seconds=60).lease
    assert running is not None
    leases.expire("user_1")

    writer.write_user_listing("user_1", [], lease=running.id, listed_at=running.listed_at, complete=True)

    assert leases.take_lease("user_1", seconds=60).lease is not None


def test_list_while_another_process_lists_waits_until_the_timeout_and_is_stale(
    sandbox: SandboxControl, ada: Caller, settings: Any
) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 1
    leases.take_lease(ada.id, seconds=60)

    begun = time.monotonic()
    response = ada.tenants()

    assert (response.status_code, response.headers["X-Clerk-Sync"]) == (200, "stale")
    assert 1 <= time.monotonic() - begun < 4
    assert sandbox.requests() == []
