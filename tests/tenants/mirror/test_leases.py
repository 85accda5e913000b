"""The lease under which one process at a time lists a user's memberships."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from tenants.mirror import leases, writer
from tenants.models import UserSync
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db


def test_a_lease_is_given_to_one_and_again_when_it_has_been_returned() -> None:
    first = leases.take_lease("user_1", seconds=60)
    assert first.lease is not None
    assert leases.take_lease("user_1", seconds=60) == leases.LeaseState(is_fresh=False, lease=None)

    leases.release_lease("user_1", first.lease)

    assert leases.take_lease("user_1", seconds=60).lease is not None


def test_a_lease_that_its_holder_never_returned_lapses() -> None:
    held = leases.take_lease("user_1", seconds=60)
    assert held.lease is not None
    UserSync.objects.update(lease_expires_at=F("lease_expires_at") - timedelta(seconds=61))

    taken = leases.take_lease("user_1", seconds=60)
    assert taken.lease is not None

    writer.write_user_listing(
        "user_1", [], lease=held.lease.id, listed_at=held.lease.listed_at, complete=True
    )
    assert UserSync.objects.get().lease == taken.lease.id, "who lost the lease closes nobody else's"
    assert UserSync.objects.get().synced_at is None


def test_a_lease_lasts_as_long_as_was_asked_for() -> None:
    leases.take_lease("user_1", seconds=100)

    remaining = UserSync.objects.get().lease_expires_at - writer.clock()  # type: ignore[operator]
    assert 90 < remaining.total_seconds() <= 100


def test_an_expired_listing_is_asked_for_again() -> None:
    lease = leases.take_lease("user_1", seconds=60).lease
    assert lease is not None
    writer.write_user_listing("user_1", [], lease=lease.id, listed_at=lease.listed_at, complete=True)
    assert leases.take_lease("user_1", seconds=60).is_fresh

    leases.expire("user_1")

    assert leases.take_lease("user_1", seconds=60).lease is not None


def test_a_listing_that_runs_while_it_is_expired_is_not_fresh() -> None:
    """A create has lost its reply meanwhile: what the listing was told may be from before."""
    running = leases.take_lease("user_1", seconds=60).lease
    assert running is not None
    leases.expire("user_1")

    writer.write_user_listing("user_1", [], lease=running.id, listed_at=running.listed_at, complete=True)

    assert leases.take_lease("user_1", seconds=60).lease is not None


def test_a_list_waits_for_the_lister_up_to_the_timeout_and_is_then_stale(
    sandbox: SandboxControl, ada: Caller, settings: Any
) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 1
    leases.take_lease(ada.id, seconds=60)

    begun = time.monotonic()
    response = ada.tenants()

    assert (response.status_code, response.headers["X-Clerk-Sync"]) == (200, "stale")
    assert 1 <= time.monotonic() - begun < 4
    assert sandbox.requests() == []
