"""Stored exactly once, processed until it succeeds, and how many statements that takes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models import F
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from clerk_integration.entities import UnreadableRecord
from clerk_integration.models import LearnedInstance, WebhookDelivery, WebhookRefusal
from clerk_integration.webhooks import registry
from clerk_integration.webhooks.exceptions import ForeignInstance, InvalidSignature
from clerk_integration.webhooks.inbox import MAX_ERROR_LENGTH, Superseded, process_delivery, requeue
from clerk_integration.webhooks.refusals import RefusalRecorder
from clerk_integration.webhooks.registry import ClerkEvent
from clerk_integration.webhooks.replay import replay
from tests.webhooks import WebhookSender, jobs_of, statements
from tests.workers import empty_queue

pytestmark = pytest.mark.django_db(transaction=True)

EVENT_TYPE = "inbox_test.happened"


class Handler:
    """A handler whose behaviour a test chooses; it writes a row, so that a rollback shows."""

    def __init__(self) -> None:
        self.events: list[ClerkEvent] = []
        self.act: Callable[[], object] = lambda: None

    def __call__(self, event: ClerkEvent) -> None:
        self.events.append(event)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO inbox_test (name) VALUES ('written')")
        self.act()

    def rows(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM inbox_test")
            return int(cursor.fetchone()[0])


_handlers: list[Handler] = []


def _handle(event: ClerkEvent) -> None:
    _handlers[-1](event)


registry.register(EVENT_TYPE, _handle)


@pytest.fixture
def handler(db: None) -> Iterator[Handler]:
    """What the events of this module are handled by in this test."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE inbox_test (name text)")
    _handlers.append(Handler())
    yield _handlers[-1]
    _handlers.pop()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE inbox_test")


@pytest.fixture
def stored(clerk: WebhookSender, handler: Handler) -> WebhookDelivery:
    """A delivery that has arrived."""
    assert clerk.send(clerk.event(EVENT_TYPE), "msg_stored").status_code == 204
    return WebhookDelivery.objects.get()


def fail() -> None:
    password = "local-variable"
    raise RuntimeError(f"no luck \x00 \ud800 {len(password)}")


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
def test_new_delivery_takes_at_most_3_statements(
    clerk: WebhookSender, instance: str, event_type: str
) -> None:
    with statements() as taken:
        assert clerk.send(clerk.event(event_type)).status_code == 204
    assert len(taken) <= 3, taken


@pytest.mark.parametrize("status", ["received", "processed", "ignored"])
def test_repeat_changes_nothing_and_takes_at_most_2_statements(
    clerk: WebhookSender, stored: WebhookDelivery, instance: str, status: str
) -> None:
    WebhookDelivery.objects.update(status=status)
    before = list(WebhookDelivery.objects.values())

    with statements() as taken:
        assert clerk.send(clerk.event(EVENT_TYPE), "msg_stored").status_code == 204

    assert len(taken) <= 2, taken
    assert list(WebhookDelivery.objects.values()) == before
    assert jobs_of(stored.id) == 1


def test_repeat_of_a_failed_delivery_is_enqueued_again_in_at_most_3_statements(
    clerk: WebhookSender, stored: WebhookDelivery
) -> None:
    WebhookDelivery.objects.update(status="failed", crashes=3)
    empty_queue()

    with statements() as taken:
        assert clerk.send(clerk.event(EVENT_TYPE), "msg_stored").status_code == 204

    assert len(taken) <= 3, taken
    stored.refresh_from_db()
    assert (stored.status, stored.crashes) == ("received", 0)
    assert jobs_of(stored.id) == 1


@pytest.mark.parametrize("replay_it", ["repeat", "requeue"])
def test_replays_of_a_failed_delivery_start_its_waiting_job_and_add_no_other(
    clerk: WebhookSender, stored: WebhookDelivery, replay_it: str
) -> None:
    other = clerk.send(clerk.event(EVENT_TYPE), "msg_other")
    assert other.status_code == 204
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '10 hours'")

    for _ in range(3):
        WebhookDelivery.objects.filter(pk=stored.pk).update(status="failed")
        if replay_it == "repeat":
            assert clerk.send(clerk.event(EVENT_TYPE), "msg_stored").status_code == 204
        else:
            assert requeue([stored.id]) == 1

    assert jobs_of(stored.id) == 1
    waiting = ProcrastinateJob.objects.filter(scheduled_at=None).values_list("args__delivery_id", flat=True)
    assert list(waiting) == [stored.id]


def test_refusals_take_no_statement_but_one_record_a_minute(clerk: WebhookSender) -> None:
    def refuse() -> None:
        assert clerk.send(clerk.event(), seconds_ago=3600).status_code == 400
        assert clerk.send(b"[]").status_code == 400

    refuse()
    with statements() as taken:
        for _ in range(20):
            refuse()
    assert taken == []


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
    assert jobs_of(WebhookDelivery.objects.get().id) == 1


def test_delivery_is_processed_once(stored: WebhookDelivery, handler: Handler) -> None:
    process_delivery(stored.id)
    process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.error) == ("processed", 1, "")
    assert stored.processed_at is not None
    assert stored.processed_at >= stored.received_at
    [event] = handler.events
    assert (event.type, event.data) == (EVENT_TYPE, stored.payload["data"])
    assert event.timestamp == stored.payload["timestamp"]
    assert handler.rows() == 1


SENT_AT = 1_716_883_200_000


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (SENT_AT, SENT_AT),
        (SENT_AT / 1000, SENT_AT),
        (253_402_300_799_999, 253_402_300_799_999),
        (253_402_300_800_000, None),
        (SENT_AT * 1000, None),
        (2**63 - 1, None),
        (None, None),
    ],
    ids=["milliseconds", "seconds", "last", "behind the last", "microseconds", "largest", "none"],
)
def test_membership_event_with_any_timestamp_is_processed(
    clerk: WebhookSender, stamp: float | None, expected: int | None
) -> None:
    organization, user = {"id": "org_1", "name": "Acme"}, {"user_id": "user_1"}
    data = {"id": "orgmem_1", "role": "org:member", "organization": organization, "public_user_data": user}
    sent = clerk.event("organizationMembership.created", data=data, timestamp=stamp)
    assert clerk.send(sent).status_code == 204
    stored = WebhookDelivery.objects.get()

    process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, stored.error) == ("processed", "")
    assert ClerkEvent.from_json(stored.payload).timestamp == expected


def test_event_of_an_organization_with_a_malformed_id_fails_with_the_reason(clerk: WebhookSender) -> None:
    assert clerk.send(clerk.event("organization.created", data={"id": "bogus"})).status_code == 204
    stored = WebhookDelivery.objects.get()

    with pytest.raises(UnreadableRecord):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert stored.status == "failed"
    assert "UnreadableRecord: 'id' is not 'org_' followed by letters" in stored.error


def test_delivery_processed_by_several_at_the_same_time_is_handled_once(
    stored: WebhookDelivery, handler: Handler
) -> None:
    def process() -> None:
        try:
            with suppress(Superseded):
                process_delivery(stored.id)
        finally:
            connection.close()

    handler.act = lambda: time.sleep(0.1)
    in_threads(process, 4)

    stored.refresh_from_db()
    assert (stored.status, handler.rows()) == ("processed", 1)


def test_failure_after_the_commit_leaves_the_delivery_processed(
    stored: WebhookDelivery, handler: Handler
) -> None:
    handler.act = lambda: transaction.on_commit(fail)
    with pytest.raises(RuntimeError):
        process_delivery(stored.id)
    stored.refresh_from_db()
    assert (stored.status, stored.error, handler.rows()) == ("processed", "", 1)


def test_processing_a_delivery_that_was_purged_does_nothing(db: None) -> None:
    process_delivery(1)


def test_failure_is_kept_with_its_traceback_and_raised(stored: WebhookDelivery, handler: Handler) -> None:
    handler.act = fail

    with pytest.raises(RuntimeError):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.processed_at) == ("failed", 1, None)
    assert stored.error.startswith("Traceback")
    assert stored.error.endswith("RuntimeError: no luck  ? 14\n")
    assert "local-variable" not in stored.error.replace('password = "local-variable"', "")
    assert handler.rows() == 0, "what the handler wrote is rolled back"


def test_failed_delivery_is_processed_by_the_next_attempt(stored: WebhookDelivery, handler: Handler) -> None:
    handler.act = fail
    with pytest.raises(RuntimeError):
        process_delivery(stored.id)
    handler.act = lambda: None

    process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.error) == ("processed", 2, "")
    assert handler.rows() == 1


def test_endless_error_is_kept_from_its_end(stored: WebhookDelivery, handler: Handler) -> None:
    def fail_at_length() -> None:
        raise RuntimeError("x" * 1_000_000 + " the end")

    handler.act = fail_at_length
    with pytest.raises(RuntimeError):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert len(stored.error) == MAX_ERROR_LENGTH
    assert stored.error.endswith("the end\n")


def test_statement_refused_by_the_database_leaves_a_failed_delivery(
    stored: WebhookDelivery, handler: Handler
) -> None:
    def divide() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")

    handler.act = divide
    with pytest.raises(Exception, match="division by zero"):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert stored.status == "failed"
    assert "division by zero" in stored.error


def test_connection_lost_while_processing_leaves_a_failed_delivery(
    stored: WebhookDelivery, handler: Handler
) -> None:
    def lose_connection() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    handler.act = lose_connection
    with pytest.raises(Exception, match="terminating connection"):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, handler.rows()) == ("failed", 0)


def test_worker_that_dies_leaves_a_trace(stored: WebhookDelivery, handler: Handler) -> None:
    def die() -> None:
        raise SystemExit

    handler.act = die
    with pytest.raises(SystemExit):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, handler.rows()) == ("received", 1, 0)


def test_type_whose_handler_is_gone_is_ignored(stored: WebhookDelivery) -> None:
    WebhookDelivery.objects.update(event_type="inbox_test.unknown")
    process_delivery(stored.id)
    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.error) == ("ignored", 1, "")


def test_envelope_of_a_type_that_is_handled_by_now_stays_ignored(
    stored: WebhookDelivery, handler: Handler
) -> None:
    WebhookDelivery.objects.update(status="ignored", payload={"object": "event", "type": EVENT_TYPE})
    process_delivery(stored.id)
    stored.refresh_from_db()
    assert (stored.status, handler.events) == ("ignored", [])


@pytest.mark.parametrize("overtaken_by", ["attempts", "crashes"])
def test_worker_that_was_overtaken_changes_nothing(
    stored: WebhookDelivery, handler: Handler, overtaken_by: str
) -> None:
    """A stopped worker loses its transaction; what it does when it wakes is up to `process_delivery`."""

    def be_overtaken() -> None:
        with psycopg.connect(**_connection_parameters()) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [backend])
            other.execute(
                f"UPDATE webhook_deliveries SET {overtaken_by} = {overtaken_by} + 1, error = 'of the other'"
            )
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = cursor.fetchone()[0]
    handler.act = be_overtaken
    with pytest.raises(Exception, match=r"terminat|closed|consuming"):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, stored.error, handler.rows()) == ("received", "of the other", 0)


@contextmanager
def overtaking(action: Callable[[], object]) -> Iterator[None]:
    """Run the action on another connection, when an attempt of the block has begun and not got further."""

    def act() -> None:
        try:
            action()
        finally:
            connection.close()

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "idle_in_transaction_session_timeout" in sql:
            in_threads(act, 1)
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        yield


def test_attempt_overtaken_by_one_that_succeeds_is_done(stored: WebhookDelivery, handler: Handler) -> None:
    with overtaking(lambda: process_delivery(stored.id)):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, handler.rows()) == ("processed", 2, 1)


def test_attempt_overtaken_by_one_that_fails_raises_so_that_its_job_is_tried_again(
    stored: WebhookDelivery, handler: Handler
) -> None:
    def fail_elsewhere() -> None:
        with pytest.raises(RuntimeError):
            process_delivery(stored.id)

    handler.act = fail
    with overtaking(fail_elsewhere), pytest.raises(Superseded):
        process_delivery(stored.id)

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, len(handler.events)) == ("failed", 2, 1)
    assert "no luck" in stored.error


def test_attempt_whose_delivery_is_purged_meanwhile_is_done(
    stored: WebhookDelivery, handler: Handler
) -> None:
    with overtaking(WebhookDelivery.objects.all().delete):
        process_delivery(stored.id)

    assert handler.events == []


def test_replay_that_is_overtaken_leaves_the_delivery_to_the_other(
    stored: WebhookDelivery, handler: Handler
) -> None:
    def begin_elsewhere() -> None:
        WebhookDelivery.objects.update(attempts=F("attempts") + 1)

    with overtaking(begin_elsewhere):
        [outcome] = replay()

    assert (outcome.status, outcome.error, handler.events) == ("received", "", [])


def test_worker_that_stopped_in_its_transaction_loses_its_locks(
    stored: WebhookDelivery, handler: Handler
) -> None:
    limits = {}

    def look() -> None:
        with connection.cursor() as cursor:
            for name in ("idle_in_transaction_session_timeout", "lock_timeout"):
                cursor.execute(f"SHOW {name}")
                limits[name] = cursor.fetchone()[0]

    handler.act = look
    process_delivery(stored.id)
    assert limits == {"idle_in_transaction_session_timeout": "10s", "lock_timeout": "15s"}
    look()
    assert limits == {"idle_in_transaction_session_timeout": "0", "lock_timeout": "0"}, "of that transaction"


def test_processing_within_a_transaction_is_a_mistake(stored: WebhookDelivery) -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        process_delivery(stored.id)


@pytest.mark.parametrize("status", WebhookDelivery.Status.values)
def test_requeue_enqueues_deliveries_of_every_status(stored: WebhookDelivery, status: str) -> None:
    WebhookDelivery.objects.update(status=status, crashes=3)

    empty_queue()

    assert requeue([stored.id, stored.id + 1]) == 1

    stored.refresh_from_db()
    assert (stored.status, stored.crashes, jobs_of(stored.id)) == ("received", 0, 1)


def test_requeue_spares_envelopes(clerk: WebhookSender) -> None:
    clerk.send(clerk.event("session.created"))
    ignored = WebhookDelivery.objects.get()
    assert requeue([ignored.id]) == 0
    ignored.refresh_from_db()
    assert (ignored.status, jobs_of(ignored.id)) == ("ignored", 0)


def _connection_parameters() -> dict[str, Any]:
    parameters: dict[str, Any] = connection.get_connection_params()
    return {
        key: parameters[key] for key in ("dbname", "user", "host", "port", "password") if key in parameters
    }
