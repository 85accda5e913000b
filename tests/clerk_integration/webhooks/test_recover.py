"""Deliveries whose worker died, or whose wake-up was lost, are processed."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks import registry
from clerk_integration.webhooks.drain import drain
from clerk_integration.webhooks.recover import recover
from clerk_integration.webhooks.registry import ClerkEvent
from tests.webhooks import statements, wake_ups
from tests.workers import delivery, locked_elsewhere

pytestmark = pytest.mark.django_db(transaction=True)

EVENT_TYPE = "recover_test.happened"

_failing = False


def _handle(event: ClerkEvent) -> None:
    if _failing:
        raise RuntimeError("no luck")


registry.register(EVENT_TYPE, _handle)


def claimed(*, seconds_ago: float, count: int = 1) -> list[WebhookDelivery]:
    """Store deliveries that an attempt has claimed; the claim was lost so many seconds ago."""
    stored = [delivery(EVENT_TYPE) for _ in range(count)]
    WebhookDelivery.objects.filter(pk__in=[each.pk for each in stored]).update(
        claim=uuid4(), attempts=1, due_at=timezone.now() - timedelta(seconds=seconds_ago)
    )
    return stored


def results() -> list[tuple[str, int, int]]:
    """The status, attempts and crashes of all deliveries, oldest first."""
    return list(WebhookDelivery.objects.order_by("id").values_list("status", "attempts", "crashes"))


@pytest.mark.parametrize("count", [1, 3, 100])
def test_deliveries_of_a_dead_worker_are_processed_and_the_crash_is_counted(count: int) -> None:
    claimed(seconds_ago=1, count=count)

    recover()

    assert results() == [("processed", 2, 1)] * count


def test_delivery_whose_claim_is_not_lost_yet_is_left_to_its_worker() -> None:
    claimed(seconds_ago=-5)

    assert (recover(), drain()) == (0, 0)

    assert results() == [("received", 1, 0)]


def test_delivery_that_its_worker_is_still_processing_is_left_to_it() -> None:
    [stored] = claimed(seconds_ago=60)

    with locked_elsewhere("SELECT FROM webhook_deliveries WHERE id = %s FOR UPDATE", stored.pk):
        assert recover() == 0
    recover()

    assert results() == [("processed", 2, 1)]


def test_third_crash_fails_the_delivery_with_the_reason() -> None:
    [stored] = claimed(seconds_ago=1)
    WebhookDelivery.objects.update(attempts=3, crashes=2)

    assert recover() == 1

    assert results() == [("failed", 3, 3)]
    stored.refresh_from_db()
    assert (stored.claim, stored.due_at) == (None, None)
    assert "crashed its worker 3 times" in stored.error
    assert recover() == 0


def test_delivery_that_fails_after_a_crash_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}._failing", True)
    claimed(seconds_ago=1)

    recover()
    assert recover() == 0

    assert results() == [("failed", 2, 1)]
    WebhookDelivery.objects.update(due_at=timezone.now())
    monkeypatch.setattr(f"{__name__}._failing", False)
    recover()
    assert results() == [("processed", 3, 1)]


def test_delivery_received_before_the_clock_was_set_back_is_processed() -> None:
    stored = delivery(EVENT_TYPE)
    later = timezone.now() + timedelta(hours=1)
    WebhookDelivery.objects.update(received_at=later, due_at=later)
    assert drain() == 0

    recover()

    assert drain() == 1
    stored.refresh_from_db()
    assert stored.received_at < later


def test_delivery_claimed_before_the_clock_was_set_back_is_processed() -> None:
    claimed(seconds_ago=-3600)

    assert recover() == 2

    assert results() == [("processed", 2, 1)]


def test_delivery_that_waits_for_a_retry_keeps_its_time() -> None:
    delivery(EVENT_TYPE)
    later = timezone.now() + timedelta(hours=1)
    WebhookDelivery.objects.update(status="failed", attempts=5, due_at=later)

    recover()

    assert WebhookDelivery.objects.get().due_at == later


@pytest.mark.parametrize("delivered", [0, 1, 3])
def test_recover_wakes_a_worker_if_deliveries_are_due(delivered: int) -> None:
    for _ in range(delivered):
        delivery(EVENT_TYPE)

    recover()
    recover()

    assert wake_ups() == min(delivered, 1)


def test_wake_up_that_a_worker_has_taken_and_lost_holds_up_nothing() -> None:
    """The answer of a query by which a worker took a job may be lost; the job then runs for good."""
    delivery(EVENT_TYPE)
    recover()
    with connection.cursor() as cursor:
        cursor.execute("SELECT procrastinate_fetch_job_v2(NULL, NULL)")

    recover()

    assert sorted(ProcrastinateJob.objects.values_list("status", flat=True)) == ["doing", "todo"]


def test_recover_limits_its_waits_before_it_locks_anything() -> None:
    with statements() as taken:
        recover()

    assert "idle_in_transaction_session_timeout" in taken[0]
    assert "lock_timeout" in taken[0]


def test_recover_releases_500_claims_at_a_time_and_processes_all_that_it_finds() -> None:
    claimed(seconds_ago=1, count=501)

    assert [recover() for _ in range(3)] == [1000, 2, 0]

    assert results() == [("processed", 2, 1)] * 501


def test_two_recoveries_at_the_same_time_count_a_crash_once() -> None:
    claimed(seconds_ago=1)

    with locked_elsewhere("SELECT pg_advisory_xact_lock(hashtext(%s))", "release_lost_claims"):
        assert recover() == 0

    recover()
    assert results() == [("processed", 2, 1)]
