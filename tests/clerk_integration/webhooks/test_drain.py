"""Deliveries are processed until they succeed: many at once if they can be, alone if one of them fails."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from clerk_integration.entities import UnreadableRecord
from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks import registry
from clerk_integration.webhooks.drain import MAX_ERROR_LENGTH, drain, drain_all
from clerk_integration.webhooks.registry import ClerkEvent
from clerk_integration.webhooks.replay import replay
from tests.webhooks import WebhookSender, statements, wake_ups
from tests.workers import empty_queue

pytestmark = pytest.mark.django_db(transaction=True)

ALONE, BATCHED = "drain_test.alone", "drain_test.batched"

Status = WebhookDelivery.Status


class Handler:
    """A handler whose behaviour a test chooses; it writes a row for each event, so that a rollback shows."""

    def __init__(self) -> None:
        self.calls: list[list[ClerkEvent]] = []
        self.act: Callable[[], object] = lambda: None
        self.bad_names: set[str] = set()

    @property
    def events(self) -> list[ClerkEvent]:
        return [event for call in self.calls for event in call]

    def __call__(self, events: Sequence[ClerkEvent]) -> None:
        self.calls.append(list(events))
        with connection.cursor() as cursor:
            for event in events:
                cursor.execute("INSERT INTO drain_test (name) VALUES (%s)", [event.data["id"]])
                if event.data["id"] in self.bad_names:
                    raise RuntimeError("a bad one")
        self.act()

    def rows(self) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM drain_test ORDER BY name")
            return [name for (name,) in cursor.fetchall()]


_handlers: list[Handler] = []


def _handle_batch(events: Sequence[ClerkEvent]) -> None:
    _handlers[-1](events)


registry.register(ALONE, lambda event: _handlers[-1]([event]))
registry.register_batch(BATCHED, _handle_batch)


@pytest.fixture(autouse=True)
def handler(transactional_db: None) -> Iterator[Handler]:
    """What the events of this module are handled by in this test."""
    empty_queue()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE drain_test (name text)")
    _handlers.append(Handler())
    yield _handlers[-1]
    _handlers.pop()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE drain_test")


@pytest.fixture(params=[ALONE, BATCHED])
def stored(request: pytest.FixtureRequest) -> WebhookDelivery:
    """A delivery that waits."""
    return store(request.param, "only")


def store(event_type: str, name: str) -> WebhookDelivery:
    stamp = round(time.time() * 1000)
    payload = {"object": "event", "type": event_type, "timestamp": stamp, "data": {"id": name}}
    return WebhookDelivery.objects.create(svix_id=f"msg_{name}", event_type=event_type, payload=payload)


def store_many(count: int, event_type: str = BATCHED) -> list[WebhookDelivery]:
    return [store(event_type, f"{number:03}") for number in range(count)]


def results() -> list[tuple[str, int]]:
    """The status and attempts of all deliveries, oldest first."""
    return list(WebhookDelivery.objects.order_by("id").values_list("status", "attempts"))


def make_due() -> None:
    """Let the time pass that failed deliveries wait."""
    WebhookDelivery.objects.filter(due_at__isnull=False).update(due_at=timezone.now())


def fail() -> None:
    password = "local-variable"
    raise RuntimeError(f"no luck \x00 \ud800 {len(password)}")


def in_threads(action: Callable[[], object], count: int) -> None:
    def act() -> None:
        try:
            action()
        finally:
            connection.close()

    threads = [threading.Thread(target=act) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_delivery_is_processed_once(stored: WebhookDelivery, handler: Handler) -> None:
    assert [drain(), drain()] == [1, 0]

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.error) == ("processed", 1, "")
    assert (stored.claim, stored.due_at) == (None, None)
    assert stored.processed_at is not None
    assert stored.processed_at >= stored.received_at
    [event] = handler.events
    assert (event.type, event.data) == (stored.event_type, stored.payload["data"])
    assert event.timestamp == stored.payload["timestamp"]
    assert handler.rows() == ["only"]


@pytest.mark.parametrize("count", [1, 3, 9, 100, 101])
def test_drain_many_that_wait_hands_100_to_one_call_and_wakes_a_worker_for_the_rest(
    handler: Handler, count: int
) -> None:
    store_many(count)

    assert drain() == min(count, 100)

    assert [len(call) for call in handler.calls] == [min(count, 100)]
    assert handler.rows() == [f"{number:03}" for number in range(min(count, 100))]
    assert results() == [("processed", 1)] * min(count, 100) + [("received", 0)] * (count - 100)
    assert wake_ups() == (count > 100)


def test_drain_takes_what_must_be_alone_in_its_turn(handler: Handler) -> None:
    for name, event_type in (("a", BATCHED), ("b", ALONE), ("c", BATCHED), ("d", ALONE)):
        store(event_type, name)

    assert [drain() for _ in range(4)] == [2, 1, 1, 0]

    assert [[event.data["id"] for event in call] for call in handler.calls] == [["a", "c"], ["b"], ["d"]]


def test_drain_all_with_one_bad_among_many_tries_each_due_delivery_in_one_job(handler: Handler) -> None:
    store_many(101)
    for number in range(9):
        store(ALONE, f"alone {number}")
    handler.bad_names = {"003", "alone 1"}

    assert drain_all(seconds=60) == 101 + 9 + 100  # The batch of the bad delivery is tried again, one by one.

    assert Counter(status for status, _ in results()) == {"processed": 108, "failed": 2}


def test_drain_all_begins_no_attempt_after_its_time_and_leaves_a_wake_up(handler: Handler) -> None:
    for number in range(3):
        store(ALONE, f"alone {number}")

    assert drain_all(seconds=0) == 1
    assert wake_ups() == 1


def test_drain_takes_one_statement_to_claim_and_a_constant_number_to_process() -> None:
    counts = []
    for count in (1, 9):
        WebhookDelivery.objects.all().delete()
        store_many(count)
        with statements() as taken:
            drain()
        counts.append(len([sql for sql in taken if "INTO drain_test" not in sql]))

    assert counts == [4, 4]  # claim, timeouts, lock, result


@pytest.mark.parametrize("count", [3, 9])
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_batch_with_a_bad_delivery_processes_each_alone(handler: Handler, count: int, bad: int) -> None:
    store_many(count)
    handler.bad_names = {f"{bad:03}"}

    assert drain() == count
    assert handler.rows() == []
    assert results() == [("received", 1)] * count
    assert wake_ups() == 1

    assert [drain() for _ in range(count + 1)] == [1] * count + [0]
    expected = [("failed" if number == bad else "processed", 2) for number in range(count)]
    assert results() == expected
    assert len(handler.rows()) == count - 1


def test_two_drains_at_the_same_time_share_the_deliveries(handler: Handler) -> None:
    store_many(250)
    handler.act = lambda: time.sleep(0.05)

    in_threads(lambda: [drain() for _ in range(3)], 2)

    assert results() == [("processed", 1)] * 250
    assert handler.rows() == [f"{number:03}" for number in range(250)]


def test_drain_leaves_deliveries_that_another_attempt_has_claimed(stored: WebhookDelivery) -> None:
    WebhookDelivery.objects.update(claim=uuid4())
    assert drain() == 0


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

    assert drain() == 1

    stored = WebhookDelivery.objects.get()
    assert (stored.status, stored.error) == ("processed", "")
    assert ClerkEvent.from_json(stored.payload).timestamp == expected


def test_event_of_an_organization_with_a_malformed_id_fails_with_the_reason(clerk: WebhookSender) -> None:
    assert clerk.send(clerk.event("organization.created", data={"id": "bogus"})).status_code == 204

    drain()

    stored = WebhookDelivery.objects.get()
    assert stored.status == "failed"
    assert stored.error.startswith(f"{UnreadableRecord.__module__}.UnreadableRecord: 'id' is not 'org_'")


@pytest.mark.parametrize("act", [drain, lambda: list(replay())])
def test_delivery_processed_by_several_at_the_same_time_is_handled_once(
    stored: WebhookDelivery, handler: Handler, act: Callable[[], object]
) -> None:
    handler.act = lambda: time.sleep(0.1)
    in_threads(act, 4)

    assert results() == [("processed", 1)]
    assert handler.rows() == ["only"]


def test_failure_after_the_commit_leaves_the_delivery_processed_and_is_logged(
    stored: WebhookDelivery, handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    handler.act = lambda: transaction.on_commit(fail)
    drain()
    stored.refresh_from_db()
    assert (stored.status, stored.error, handler.rows()) == ("processed", "", ["only"])
    assert "no luck" in caplog.text


def test_failure_is_kept_with_its_traceback(stored: WebhookDelivery, handler: Handler) -> None:
    handler.act = fail

    drain()

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.processed_at) == ("failed", 1, None)
    assert stored.error.startswith("Traceback")
    assert stored.error.endswith("RuntimeError: no luck  ? 14\n")
    assert "local-variable" not in stored.error.replace('password = "local-variable"', "")
    assert handler.rows() == [], "what the handler wrote is rolled back"


def test_failing_delivery_is_tried_eight_times_with_growing_waits(
    stored: WebhookDelivery, handler: Handler
) -> None:
    handler.act = fail
    waits = []
    for _ in range(8):
        assert drain() == 1
        stored.refresh_from_db()
        waits.append(stored.due_at and round((stored.due_at - timezone.now()).total_seconds()))
        make_due()

    assert waits == [5, 30, 120, 600, 3600, 3 * 3600, 10 * 3600, None]
    assert drain() == 0
    assert (stored.status, stored.attempts) == ("failed", 8)


def test_failures_before_a_crash_count_as_tries_and_the_crash_does_not(
    stored: WebhookDelivery, handler: Handler
) -> None:
    WebhookDelivery.objects.update(attempts=3, crashes=1, status="failed")
    handler.act = fail

    [result] = replay(failed=True)

    assert result.error.startswith("RuntimeError: no luck")
    stored.refresh_from_db()
    assert stored.due_at is not None
    assert round((stored.due_at - timezone.now()).total_seconds()) == 120


def test_failed_delivery_is_processed_by_the_next_attempt(stored: WebhookDelivery, handler: Handler) -> None:
    handler.act = fail
    drain()
    handler.act = lambda: None
    make_due()

    drain()

    stored.refresh_from_db()
    assert (stored.status, stored.attempts, stored.error) == ("processed", 2, "")
    assert handler.rows() == ["only"]


def test_endless_error_is_kept_from_its_end(stored: WebhookDelivery, handler: Handler) -> None:
    def fail_at_length() -> None:
        raise RuntimeError("x" * 1_000_000 + " the end")

    handler.act = fail_at_length
    drain()

    stored.refresh_from_db()
    assert len(stored.error) == MAX_ERROR_LENGTH
    assert stored.error.endswith("the end\n")


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT 1/0", "division by zero"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "terminating connection"),
    ],
    ids=["refused", "connection lost"],
)
def test_statement_that_fails_leaves_a_failed_delivery(
    stored: WebhookDelivery, handler: Handler, statement: str, reason: str
) -> None:
    def run() -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    handler.act = run
    drain()

    stored.refresh_from_db()
    assert (stored.status, handler.rows()) == ("failed", [])
    assert reason in stored.error


def test_process_that_is_stopped_leaves_the_delivery_to_others(
    stored: WebhookDelivery, handler: Handler
) -> None:
    def stop() -> None:
        raise SystemExit

    handler.act = stop
    with pytest.raises(SystemExit):
        drain()

    assert (results(), handler.rows(), wake_ups()) == ([("received", 1)], [], 1)
    handler.act = lambda: None
    drain()
    assert results() == [("processed", 2)]


def test_type_whose_handler_is_gone_is_ignored_and_others_are_processed(stored: WebhookDelivery) -> None:
    store("drain_test.unknown", "unknown")
    while drain():
        pass
    assert results() == [("processed", 1), ("ignored", 1)]


def test_envelope_of_a_type_that_is_handled_by_now_is_ignored(handler: Handler) -> None:
    store_many(3)
    WebhookDelivery.objects.filter(svix_id="msg_001").update(payload={"object": "event", "type": BATCHED})
    drain()
    assert results() == [("processed", 1), ("ignored", 1), ("processed", 1)]
    assert len(handler.events) == 2


def test_worker_that_was_overtaken_changes_nothing(stored: WebhookDelivery, handler: Handler) -> None:
    """A frozen worker loses its transaction, and then its claim."""

    def be_overtaken() -> None:
        with psycopg.connect(**_connection_parameters()) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [backend])
            other.execute("UPDATE webhook_deliveries SET claim = NULL, error = 'of the other'")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = cursor.fetchone()[0]
    handler.act = be_overtaken
    drain()

    stored.refresh_from_db()
    assert (stored.status, stored.error, handler.rows()) == ("received", "of the other", [])


@contextmanager
def overtaking(action: Callable[[], object]) -> Iterator[None]:
    """Run the action on another connection, when an attempt of the block has claimed and not got further."""

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "idle_in_transaction_session_timeout" in sql:
            in_threads(action, 1)
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        yield


@pytest.mark.parametrize(
    "action",
    [lambda: WebhookDelivery.objects.update(claim=uuid4()), lambda: WebhookDelivery.objects.all().delete()],
    ids=["claimed by another", "purged"],
)
def test_attempt_whose_claim_is_lost_before_it_locks_handles_nothing(
    stored: WebhookDelivery, handler: Handler, action: Callable[[], object]
) -> None:
    with overtaking(action):
        drain()

    assert handler.events == []
    assert all(status == "received" for status, _ in results())


def test_replay_leaves_a_delivery_to_the_worker_that_has_claimed_it(
    stored: WebhookDelivery, handler: Handler
) -> None:
    later = timezone.now() + timedelta(seconds=15)
    WebhookDelivery.objects.update(claim=uuid4(), due_at=later)

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
    drain()
    assert limits == {"idle_in_transaction_session_timeout": "10s", "lock_timeout": "15s"}
    look()
    assert limits == {"idle_in_transaction_session_timeout": "0", "lock_timeout": "0"}, "of that transaction"


def test_drain_does_not_wait_for_the_disk(stored: WebhookDelivery, handler: Handler) -> None:
    found = []

    def look() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            found.append(cursor.fetchone()[0])

    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
    handler.act = look
    drain()
    look()
    connection.close()
    assert found == ["off", "on"]


def test_draining_within_a_transaction_is_a_mistake(stored: WebhookDelivery, handler: Handler) -> None:
    with transaction.atomic():
        drain()
        transaction.set_rollback(True)
    assert handler.events == []


def _connection_parameters() -> dict[str, Any]:
    parameters: dict[str, Any] = connection.get_connection_params()
    return {
        key: parameters[key] for key in ("dbname", "user", "host", "port", "password") if key in parameters
    }
