"""Events are stored exactly once; how many statements that takes."""

import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from clerk_integration.models import LearnedInstance, WebhookDelivery, WebhookRefusal
from clerk_integration.webhooks import registry
from clerk_integration.webhooks.exceptions import ForeignInstance, InvalidSignature
from clerk_integration.webhooks.inbox import requeue
from clerk_integration.webhooks.refusals import RefusalRecorder
from tests.webhooks import WebhookSender, is_queued, statements, wake_ups
from tests.workers import empty_queue

pytestmark = pytest.mark.django_db(transaction=True)

EVENT_TYPE = "inbox_test.happened"


registry.register(EVENT_TYPE, lambda event: None)


@pytest.fixture
def stored(clerk: WebhookSender) -> WebhookDelivery:
    """A delivery that has arrived."""
    assert clerk.send(clerk.event(EVENT_TYPE), "msg_stored").status_code == 204
    return WebhookDelivery.objects.get()


def in_threads(action: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=action) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture(params=["configured", "stored", "unknown"])
def instance(request: pytest.FixtureRequest, clerk: WebhookSender, settings: Settings) -> str:
    """Where the sender's instance is known from when the test begins."""
    if request.param != "configured":
        settings.CLERK_INSTANCE_ID = ""
    if request.param == "stored":
        LearnedInstance.objects.create(instance_id=clerk.instance_id)
    return str(request.param)


@pytest.mark.parametrize("event_type", [EVENT_TYPE, "session.created"])
def test_new_delivery_takes_one_statement_and_one_for_the_instance(
    clerk: WebhookSender, instance: str, event_type: str
) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert clerk.send(clerk.event(event_type)).status_code == 204
    assert len(captured) <= 2, captured.captured_queries


@pytest.mark.parametrize("status", ["received", "processed", "ignored"])
def test_repeat_changes_nothing_and_takes_no_more_statements(
    clerk: WebhookSender, stored: WebhookDelivery, instance: str, status: str
) -> None:
    WebhookDelivery.objects.update(status=status)
    before = list(WebhookDelivery.objects.values())

    with statements() as taken:
        assert clerk.send(clerk.event(EVENT_TYPE), "msg_stored").status_code == 204

    assert len(taken) <= 2, taken
    assert list(WebhookDelivery.objects.values()) == before
    assert wake_ups() == 1


@pytest.mark.parametrize("waits", [True, False], ids=["waits for its next try", "given up"])
def test_repeat_of_a_failed_delivery_is_queued_again_in_at_most_2_statements(
    clerk: WebhookSender, stored: WebhookDelivery, waits: bool
) -> None:
    due_at = timezone.now() + timedelta(hours=10) if waits else None
    WebhookDelivery.objects.update(status="failed", attempts=8, crashes=3, due_at=due_at)
    empty_queue()

    with statements() as taken:
        assert clerk.send(clerk.event(EVENT_TYPE), "msg_stored").status_code == 204

    assert len(taken) <= 2, taken
    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.crashes) == ("received", 0, 0)
    assert is_queued(stored.id)


def test_repeat_of_a_failed_delivery_that_is_being_tried_again_changes_nothing(
    clerk: WebhookSender, stored: WebhookDelivery
) -> None:
    WebhookDelivery.objects.update(status="failed", claim=uuid4())
    before = list(WebhookDelivery.objects.values())

    assert clerk.send(clerk.event(EVENT_TYPE), "msg_stored").status_code == 204

    assert list(WebhookDelivery.objects.values()) == before


def test_many_deliveries_add_one_wake_up_until_a_worker_takes_it(clerk: WebhookSender) -> None:
    for _ in range(3):
        clerk.send(clerk.event(EVENT_TYPE))
    assert wake_ups() == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT procrastinate_fetch_job_v2(NULL, NULL)")

    for _ in range(3):
        clerk.send(clerk.event(EVENT_TYPE))

    assert wake_ups() == 1
    assert ProcrastinateJob.objects.count() == 2


def test_ignored_delivery_wakes_nobody(clerk: WebhookSender) -> None:
    clerk.send(clerk.event("session.created"))
    assert wake_ups() == 0


def test_refusals_take_no_statement_but_one_record_a_minute(clerk: WebhookSender) -> None:
    with statements() as taken:
        for _ in range(20):
            assert clerk.send(clerk.event(), seconds_ago=3600).status_code == 400
            assert clerk.send(b"[]").status_code == 400

    # An earlier test may have begun a minute, which may end between any two of these: one write a reason.
    assert all("webhook_refusals" in statement for statement in taken)
    assert len([statement for statement in taken if statement.startswith("UPDATE")]) <= 2
    assert len([statement for statement in taken if statement.startswith("INSERT")]) <= 2


def test_refusals_are_counted_and_written_once_a_minute_with_the_last_reason(db: None) -> None:
    now = 0.0
    recorder = RefusalRecorder(clock=lambda: now)

    def counts() -> dict[str, tuple[int, str]]:
        return {row.code: (row.count, row.reason) for row in WebhookRefusal.objects.all()}

    recorder.record(InvalidSignature("first"))
    assert counts() == {"invalid_signature": (1, "first")}
    recorder.record(InvalidSignature("second"))
    recorder.record(ForeignInstance("other"))
    assert counts() == {"invalid_signature": (1, "first"), "foreign_instance": (1, "other")}
    now = 60.0
    recorder.record(InvalidSignature("third"))
    assert counts() == {"invalid_signature": (3, "third"), "foreign_instance": (1, "other")}


def test_repeats_at_the_same_time_are_stored_once(clerk: WebhookSender) -> None:
    event, answers = clerk.event(), []

    def send() -> None:
        try:
            answers.append(clerk.send(event, "msg_same").status_code)
        finally:
            connection.close()

    in_threads(send, 8)

    assert answers == [204] * 8
    assert is_queued(WebhookDelivery.objects.get().id)


@pytest.mark.parametrize("status", WebhookDelivery.Status.values)
def test_requeue_queues_deliveries_of_every_status(stored: WebhookDelivery, status: str) -> None:
    WebhookDelivery.objects.update(status=status, attempts=8, crashes=3, due_at=None, claim=uuid4())
    empty_queue()

    assert requeue(WebhookDelivery.objects.all()) == 1

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.crashes) == ("received", 0, 0)
    assert is_queued(stored.id)


def test_requeue_spares_envelopes(clerk: WebhookSender) -> None:
    clerk.send(clerk.event("session.created"))
    ignored = WebhookDelivery.objects.get()
    assert requeue(WebhookDelivery.objects.all()) == 0
    ignored.refresh_from_db()
    assert (ignored.status, is_queued(ignored.id)) == ("ignored", False)
