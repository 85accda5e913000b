"""Webhooks of the sandbox: their content, signatures and retries."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from django.conf import settings as django_settings
from jsonschema import Draft202012Validator
from standardwebhooks import Webhook, WebhookVerificationError

from clerk_integration.sandbox.deliveries import (
    MAX_FINISHED,
    MAX_QUEUED,
    RETRY_SECONDS,
    WORKERS,
    Deliveries,
)
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.server import SandboxServer
from clerk_integration.sandbox.webhook_options import WebhookOptions
from tests.clerk_integration.sandbox.specification import read_specification
from tests.sandbox import Json, SandboxControl

DEADLINE = 20.0
TYPES = (
    "user.created",
    "user.updated",
    "user.deleted",
    "organization.created",
    "organization.updated",
    "organization.deleted",
    "organizationMembership.created",
    "organizationMembership.updated",
    "organizationMembership.deleted",
)


class Receiver(ThreadingHTTPServer):
    """Records requests; answers with what `answer_with` queued (None closes the connection), else 204."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/webhooks"
        self.answers: queue.SimpleQueue[tuple[int, dict[str, str]] | None] = queue.SimpleQueue()
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.gate = threading.Event()
        self.gate.set()

    def answer_with(self, *statuses: int | None, **headers: str) -> None:
        """Answer the next requests so."""
        for status in statuses:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            self.answers.put(None if status is None else (status, named))

    @property
    def ids(self) -> list[str]:
        """The message ids in the order of arrival."""
        return [headers["svix-id"] for headers, _ in self.received]

    @property
    def bodies(self) -> list[Json]:
        """The bodies in the order of arrival."""
        return [json.loads(body) for _, body in self.received]

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        deadline = time.monotonic() + DEADLINE
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count} requests arrived"
            time.sleep(0.01)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore senders that closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(({key.lower(): value for key, value in self.headers.items()}, body))
        self.server.gate.wait(DEADLINE)
        answer = (204, {}) if self.server.answers.empty() else self.server.answers.get()
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer[0])
        for name, value in ({"Content-Length": "0"} | answer[1]).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture
def receiver(sandbox: SandboxControl) -> Iterator[Receiver]:
    """An endpoint that is not configured in the sandbox."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.gate.set()
    sandbox.reset()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def endpoint(sandbox: SandboxControl, receiver: Receiver) -> Receiver:
    """The endpoint of the instance; failed messages are sent again at once."""
    sandbox.webhooks(url=receiver.url, retryScale=0)
    return receiver


def settled(sandbox: SandboxControl) -> Json:
    """Wait until nothing is pending; return the counts."""
    deadline = time.monotonic() + DEADLINE
    while (counts := sandbox.webhooks()["counts"])["pending"]:
        assert time.monotonic() < deadline, counts
        time.sleep(0.01)
    return dict(counts)


def verified(headers: dict[str, str], body: bytes, secret: str) -> Json:
    """Return the event, verified with standardwebhooks after renaming the headers."""
    renamed = {f"webhook-{name}": headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    return dict(Webhook(secret).verify(body, renamed))


def lifetimes(sandbox: SandboxControl) -> Json:
    """Cause one event of every type, two of some; return the ids."""
    owner = sandbox.user(externalId="customer-1")["id"]
    guest = sandbox.user(emailAddress="guest@example.com")["id"]
    sandbox.api("PATCH", f"/users/{guest}", {"first_name": "Grace"})
    organization = sandbox.organization("Acme", owner, slug="acme", private_metadata={"key": 1})["id"]
    sandbox.membership(organization, guest)
    sandbox.api("PATCH", f"/organizations/{organization}/memberships/{guest}", {"role": "org:admin"})
    sandbox.api("PATCH", f"/organizations/{organization}", {"name": "Umbrella"})
    sandbox.delete_user(guest)
    sandbox.api("DELETE", f"/organizations/{organization}")
    return {"owner": owner, "guest": guest, "organization": organization}


# --- content ---------------------------------------------------------------------------------------


def test_change_sends_one_webhook_that_verifies(sandbox: SandboxControl, endpoint: Receiver) -> None:
    user = sandbox.user()

    assert settled(sandbox) == {"pending": 0, "delivered": 1, "failed": 0, "dropped": 0, "discarded": 0}
    ((headers, body),) = endpoint.received
    event = verified(headers, body, sandbox.description["webhookSigningSecret"])
    assert headers["content-type"] == "application/json"
    assert headers["svix-id"].startswith("msg_")
    assert event == {
        "data": user,
        "event_attributes": {"http_request": {"client_ip": "127.0.0.1", "user_agent": "clerk-sandbox"}},
        "instance_id": sandbox.description["instanceId"],
        "object": "event",
        "timestamp": user["updated_at"],
        "type": "user.created",
    }


def test_webhook_tampered_with_does_not_verify(sandbox: SandboxControl, endpoint: Receiver) -> None:
    sandbox.user()
    settled(sandbox)

    ((headers, body),) = endpoint.received
    with pytest.raises(WebhookVerificationError):
        verified(headers, body + b" ", sandbox.description["webhookSigningSecret"])


def test_changes_are_reported_in_order_with_their_state_at_that_time(sandbox: SandboxControl) -> None:
    sandbox.webhooks(paused=True)

    ids = lifetimes(sandbox)

    messages = sandbox.messages()
    assert [message["type"] for message in messages] == [
        "user.created",
        "user.created",
        "user.updated",
        "organization.created",
        "organizationMembership.created",
        "organizationMembership.created",
        "organizationMembership.updated",
        "organization.updated",
        "organizationMembership.deleted",
        "user.deleted",
        "organizationMembership.deleted",
        "organization.deleted",
    ]
    created, updated = messages[3]["body"], messages[7]["body"]
    assert (created["data"]["name"], updated["data"]["name"]) == ("Acme", "Umbrella")
    assert (created["data"]["members_count"], updated["data"]["members_count"]) == (0, 2)
    assert created["data"]["private_metadata"] == {"key": 1}
    assert messages[4]["body"]["data"]["organization"]["name"] == "Acme"
    assert messages[9]["body"]["data"] == {"object": "user", "id": ids["guest"], "deleted": True}
    stamps = [message["body"]["timestamp"] for message in messages]
    assert stamps == sorted(set(stamps))


def test_deleted_records_are_reported_with_the_fields_that_clerk_sends(sandbox: SandboxControl) -> None:
    sandbox.webhooks(paused=True)

    ids = lifetimes(sandbox)
    sandbox.delete_user(ids["owner"])

    sent = {message["type"]: message["body"]["data"] for message in sandbox.messages()}
    assert sent["organization.deleted"] == {
        "object": "organization",
        "id": ids["organization"],
        "slug": "acme",
        "deleted": True,
    }
    assert sent["user.deleted"]["external_id"] == "customer-1"
    membership = sent["organizationMembership.deleted"]
    assert membership["object"] == "organization_membership"
    assert membership["organization"]["id"] == ids["organization"]
    assert membership["public_user_data"]["user_id"] == ids["owner"]
    assert "deleted" not in membership


def test_cascades_off_reports_only_the_deleted_record(sandbox: SandboxControl) -> None:
    sandbox.webhooks(paused=True, cascades=False)

    lifetimes(sandbox)

    sent = Counter(message["type"] for message in sandbox.messages())
    assert "organizationMembership.deleted" not in sent
    assert (sent["organization.deleted"], sent["user.deleted"]) == (1, 1)


def test_cascades_off_membership_removed_by_itself_is_reported(sandbox: SandboxControl) -> None:
    owner, guest = sandbox.user()["id"], sandbox.user()["id"]
    organization = sandbox.organization("Acme", owner)["id"]
    sandbox.membership(organization, guest)
    sandbox.webhooks(paused=True, cascades=False)

    sandbox.api("DELETE", f"/organizations/{organization}/memberships/{guest}")

    assert [message["type"] for message in sandbox.messages()] == ["organizationMembership.deleted"]


def test_deleted_user_loses_all_memberships(sandbox: SandboxControl) -> None:
    owner = sandbox.user()["id"]
    organization = sandbox.organization("Acme", owner)["id"]

    sandbox.delete_user(owner)

    assert sandbox.api("GET", "/users") == []
    assert sandbox.api("GET", f"/organizations/{organization}/memberships")["total_count"] == 0
    reply = httpx.get(f"{sandbox.url}/sandbox/v1/users/{owner}")
    assert reply.status_code == 404


def test_timestamp_unit_seconds_gives_ten_digits(sandbox: SandboxControl) -> None:
    sandbox.webhooks(paused=True, timestampUnit="s")

    user = sandbox.user()

    assert sandbox.messages()[0]["body"]["timestamp"] == user["updated_at"] // 1000


def test_refused_change_and_reset_report_nothing(sandbox: SandboxControl, endpoint: Receiver) -> None:
    httpx.post(f"{sandbox.url}/sandbox/v1/organizations", json={"name": ""})
    sandbox.reset(organizations=3, users=2, membershipsPerOrganization=2)
    sandbox.webhooks(paused=True)

    assert sandbox.messages() == []
    assert endpoint.received == []


def test_without_an_endpoint_no_message_is_made(sandbox: SandboxControl, receiver: Receiver) -> None:
    sandbox.user()

    sandbox.webhooks(url=receiver.url)

    assert sandbox.messages() == []


@pytest.mark.parametrize("event_type", TYPES)
def test_payload_agrees_with_clerks_specification(sandbox: SandboxControl, event_type: str) -> None:
    specification = read_specification("webhooks-2025-04-15.yml")
    sandbox.webhooks(paused=True)

    lifetimes(sandbox)

    bodies = [message["body"] for message in sandbox.messages() if message["type"] == event_type]
    operation = specification["x-webhooks"][event_type]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": specification["components"]})
    assert bodies
    assert [error.message for body in bodies for error in validator.iter_errors(body)] == []


# --- retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [500, 302, 404, 199 + 200, None])
def test_failed_attempt_is_repeated_under_the_same_id(
    sandbox: SandboxControl, endpoint: Receiver, refusal: int | None
) -> None:
    endpoint.answer_with(refusal, refusal, Location=endpoint.url)

    sandbox.user()

    assert settled(sandbox)["delivered"] == 1
    assert len(endpoint.received) == 3
    assert len(set(endpoint.ids)) == 1
    for headers, body in endpoint.received:
        verified(headers, body, sandbox.description["webhookSigningSecret"])
    attempts = _listed(sandbox)[0]["attempts"]
    assert [attempt["status"] for attempt in attempts] == [refusal, refusal, 204]
    assert [attempt["error"] is None for attempt in attempts] == [False, False, True]


def test_message_that_always_fails_ends_after_eight_attempts(
    sandbox: SandboxControl, endpoint: Receiver
) -> None:
    endpoint.answer_with(*[500] * 20)

    sandbox.user()

    assert settled(sandbox)["failed"] == 1
    assert len(endpoint.received) == len(RETRY_SECONDS) + 1 == 8


def test_receiver_that_aborts_a_message_gets_no_second_attempt(
    sandbox: SandboxControl, endpoint: Receiver
) -> None:
    endpoint.answer_with(500, webhook_delivery="abort-message")

    sandbox.user()

    assert settled(sandbox)["failed"] == 1
    assert len(endpoint.received) == 1


def test_retry_waits_as_svix_does_and_a_new_scale_applies_at_once(
    sandbox: SandboxControl, endpoint: Receiver
) -> None:
    sandbox.webhooks(retryScale=1000)
    endpoint.answer_with(500)
    sandbox.user("user_1")
    endpoint.wait_for(1)

    sandbox.user("user_2")
    endpoint.wait_for(2)
    assert sandbox.webhooks()["counts"]["pending"] >= 1
    sandbox.webhooks(retryScale=0)

    assert settled(sandbox)["delivered"] == 2
    assert [body["data"]["id"] for body in endpoint.bodies] == ["user_1", "user_2", "user_1"]


def test_receiver_that_does_not_listen_fails_the_message(sandbox: SandboxControl, receiver: Receiver) -> None:
    sandbox.webhooks(url="http://127.0.0.1:9/", retryScale=0)

    sandbox.user()

    assert settled(sandbox)["failed"] == 1
    assert {attempt["status"] for attempt in _listed(sandbox)[0]["attempts"]} == {None}


@pytest.mark.slow
def test_answer_after_fifteen_seconds_counts_as_failed(sandbox: SandboxControl, endpoint: Receiver) -> None:
    endpoint.gate.clear()
    sandbox.user()

    endpoint.wait_for(2)
    endpoint.gate.set()

    assert settled(sandbox)["delivered"] == 1
    assert [attempt["status"] for attempt in _listed(sandbox)[0]["attempts"]] == [None, 204]


# --- options ---------------------------------------------------------------------------------------


def test_paused_messages_wait_and_are_sent_when_released(sandbox: SandboxControl, endpoint: Receiver) -> None:
    sandbox.webhooks(paused=True)
    users = [sandbox.user()["id"] for _ in range(3)]

    assert [message["status"] for message in sandbox.messages()] == ["pending"] * 3
    assert endpoint.received == []
    sandbox.webhooks(paused=False)

    assert settled(sandbox)["delivered"] == 3
    assert {body["data"]["id"] for body in endpoint.bodies} == set(users)


def test_messages_that_wait_keep_their_order_when_options_change(
    sandbox: SandboxControl, endpoint: Receiver
) -> None:
    sandbox.webhooks(paused=True)
    users = [sandbox.user()["id"] for _ in range(5 * WORKERS)]

    for batch in range(3):
        endpoint.gate.clear()
        sandbox.webhooks(paused=False)
        # As many as there are senders are under way, and no more can be.
        endpoint.wait_for((batch + 1) * WORKERS)
        sandbox.webhooks(paused=True)
        endpoint.gate.set()
        wait_for_delivered(sandbox, (batch + 1) * WORKERS)

    arrived = [body["data"]["id"] for body in endpoint.bodies]
    assert len(arrived) == 3 * WORKERS
    for first in range(0, len(arrived), WORKERS):
        assert set(arrived[first : first + WORKERS]) == set(users[first : first + WORKERS])


def wait_for_delivered(sandbox: SandboxControl, count: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while sandbox.webhooks()["counts"]["delivered"] < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_messages_paused_without_an_endpoint_are_sent_to_a_later_one(
    sandbox: SandboxControl, receiver: Receiver
) -> None:
    sandbox.webhooks(paused=True)
    sandbox.user()

    sandbox.webhooks(url=receiver.url, paused=False)

    assert settled(sandbox)["delivered"] == 1
    assert len(receiver.received) == 1


def test_shuffled_messages_arrive_out_of_order_and_all(sandbox: SandboxControl, endpoint: Receiver) -> None:
    sandbox.webhooks(paused=True, shuffle=True)
    users = [sandbox.user()["id"] for _ in range(40)]

    sandbox.webhooks(paused=False)

    settled(sandbox)
    arrived = [body["data"]["id"] for body in endpoint.bodies]
    moved = sum(abs(arrived.index(user) - position) for position, user in enumerate(users))
    assert sorted(arrived) == sorted(users)
    assert moved > 100, "a random order moves each by 13 on average"


def test_duplicated_message_arrives_twice_under_one_id(sandbox: SandboxControl, endpoint: Receiver) -> None:
    sandbox.webhooks(duplicate=True)

    sandbox.user()
    sandbox.user()

    assert settled(sandbox)["delivered"] == 2
    assert sorted(Counter(endpoint.ids).values()) == [2, 2]
    assert len({body for _, body in endpoint.received}) == 2


def test_drop_of_one_half_drops_some_and_delivers_the_rest(
    sandbox: SandboxControl, endpoint: Receiver
) -> None:
    sandbox.webhooks(drop=0.5, paused=True)
    for _ in range(60):
        sandbox.user()

    sandbox.webhooks(paused=False)

    counts = settled(sandbox)
    assert counts["dropped"] + counts["delivered"] == 60
    assert counts["dropped"] > 5
    assert counts["delivered"] == len(endpoint.received) > 5


def test_dropped_message_is_never_sent_until_replayed(sandbox: SandboxControl, endpoint: Receiver) -> None:
    sandbox.webhooks(drop=True)
    sandbox.user()
    assert settled(sandbox) == {"pending": 0, "delivered": 0, "failed": 0, "dropped": 1, "discarded": 0}
    assert endpoint.received == []
    message = sandbox.messages()[0]

    sandbox.replay(message["id"])

    assert settled(sandbox) == {"pending": 0, "delivered": 1, "failed": 0, "dropped": 0, "discarded": 0}
    assert endpoint.ids == [message["id"]]


def test_replayed_message_arrives_again_unchanged(sandbox: SandboxControl, endpoint: Receiver) -> None:
    user = sandbox.user()["id"]
    settled(sandbox)
    message = sandbox.messages()[0]
    sandbox.api("PATCH", f"/users/{user}", {"first_name": "Ada"})
    settled(sandbox)

    sandbox.replay(message["id"])
    settled(sandbox)

    assert endpoint.ids.count(message["id"]) == 2
    assert endpoint.received[0][1] == endpoint.received[2][1]


def test_rotated_secret_signs_beside_the_one_before(sandbox: SandboxControl, endpoint: Receiver) -> None:
    old = sandbox.description["webhookSigningSecret"]

    new = sandbox.webhooks(rotateSecret=True)["webhookSigningSecret"]
    sandbox.user()
    settled(sandbox)

    ((headers, body),) = endpoint.received
    assert new != old
    assert len(headers["svix-signature"].split(" ")) == 2
    assert verified(headers, body, old) == verified(headers, body, new)


def test_reset_ends_a_rotation(sandbox: SandboxControl, endpoint: Receiver) -> None:
    sandbox.webhooks(rotateSecret=True)
    sandbox.reset()
    sandbox.webhooks(url=endpoint.url)

    sandbox.user()
    settled(sandbox)

    ((headers, body),) = endpoint.received
    assert len(headers["svix-signature"].split(" ")) == 1
    verified(headers, body, sandbox.description["webhookSigningSecret"])


def test_message_taken_by_a_test_is_signed_like_a_sent_one(
    sandbox: SandboxControl, endpoint: Receiver
) -> None:
    sandbox.user(firstName="Zoë")
    settled(sandbox)
    message = sandbox.messages()[0]

    headers, content = sandbox.sign(message), sandbox.content(message)

    assert content == endpoint.received[0][1]
    assert verified(headers, content, sandbox.description["webhookSigningSecret"]) == message["body"]


def test_cleared_messages_are_not_sent(sandbox: SandboxControl, endpoint: Receiver) -> None:
    sandbox.webhooks(paused=True)
    sandbox.user()

    sandbox.clear_messages()
    sandbox.webhooks(paused=False)
    sandbox.user("user_2")
    settled(sandbox)

    assert [body["data"]["id"] for body in endpoint.bodies] == ["user_2"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"url": "ftp://example.com"}, 422),
        ({"url": "http://"}, 422),
        ({"url": "http://[::1"}, 422),
        ({"url": "http://127.0.0.1:99999/"}, 422),
        ({"url": 5}, 422),
        ({"duplicate": 1.5}, 422),
        ({"drop": -1}, 422),
        ({"drop": "often"}, 422),
        ({"retryScale": -1}, 422),
        ({"timestampUnit": "us"}, 422),
        ({"paused": "yes"}, 422),
        ({"rotateSecret": 1}, 422),
        ({"unknown": 1}, 422),
    ],
)
def test_webhook_options_with_bad_values_are_refused_and_change_nothing(
    sandbox: SandboxControl, body: Json, status: int
) -> None:
    before = sandbox.webhooks()

    reply = httpx.post(f"{sandbox.url}/sandbox/webhooks", json=body | {"shuffle": True})

    assert reply.status_code == status
    assert sandbox.webhooks() == before


def test_replay_of_an_unknown_message_is_refused(sandbox: SandboxControl) -> None:
    reply = httpx.post(f"{sandbox.url}/sandbox/webhooks/replay", json={"id": "msg_nothing"})

    assert reply.status_code == 404


# --- load and limits -------------------------------------------------------------------------------


def test_receiver_that_hangs_delays_neither_the_api_nor_other_messages(
    sandbox: SandboxControl, endpoint: Receiver
) -> None:
    endpoint.gate.clear()
    sandbox.user("user_1")
    endpoint.wait_for(1)

    sandbox.user("user_2")
    sandbox.user("user_3")
    endpoint.wait_for(3)

    assert sandbox.webhooks()["counts"]["pending"] == 3
    endpoint.gate.set()
    assert settled(sandbox)["delivered"] == 3


def test_queue_that_is_full_discards_and_counts() -> None:
    deliveries = Deliveries("whsec_c2VjcmV0", WebhookOptions.parse({"paused": True}))

    for _ in range(MAX_QUEUED + 2):
        deliveries.add("user.created", "{}")

    assert deliveries.counts()["pending"] == len(deliveries.messages()) == MAX_QUEUED
    assert deliveries.counts()["discarded"] == 2
    deliveries.stop()


def test_finished_messages_over_the_limit_are_forgotten(receiver: Receiver) -> None:
    deliveries = Deliveries("whsec_c2VjcmV0", WebhookOptions.parse({"url": receiver.url, "drop": True}))
    last = MAX_FINISHED + 5
    for number in range(last + 1):
        deliveries.add("user.created", json.dumps(number))
    deadline = time.monotonic() + DEADLINE
    while deliveries.counts()["pending"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    assert [message.body for message in deliveries.messages()][-1] == str(last)
    assert len(deliveries.messages()) == MAX_FINISHED
    assert deliveries.counts()["dropped"] == last + 1
    deliveries.stop()


def test_server_stopped_while_messages_wait_sends_no_more(receiver: Receiver) -> None:
    def senders() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if "webhooks" in thread.name}

    receiver.answer_with(*[500] * 3)
    others = senders()
    server = SandboxServer(webhook_url=receiver.url, webhook_retry_scale=1)
    server.start()
    control = SandboxControl(server.description)
    control.user()
    receiver.wait_for(1)

    control.close()
    server.stop()

    assert len(receiver.received) == 1
    assert senders() <= others


def test_command_sends_webhooks_to_its_option_and_sigint_ends_it_with_zero(receiver: Receiver) -> None:
    options = ["--webhook-url", receiver.url, "--webhook-retry-scale", "0"]
    command = [sys.executable, str(django_settings.BASE_DIR / "manage.py"), "clerk_sandbox", *options]
    receiver.answer_with(500)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        description = json.loads(process.stdout.readline())
        control = SandboxControl(description)
        user = control.user()
        assert settled(control)["delivered"] == 1
        control.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0

    assert len(receiver.received) == 2
    headers, body = receiver.received[-1]
    assert verified(headers, body, description["webhookSigningSecret"])["data"] == user


def test_server_with_a_bad_webhook_url_is_refused() -> None:
    with pytest.raises(ApiError, match="must be an http or https URL"):
        SandboxServer(webhook_url="example.com/webhooks")


def _listed(sandbox: SandboxControl) -> list[Json]:
    """The messages with their attempts."""
    return list(httpx.get(f"{sandbox.url}/sandbox/webhooks").json()["messages"])
