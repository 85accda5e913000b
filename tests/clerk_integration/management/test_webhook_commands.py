"""The commands: processing without a worker, retention, and sending a sample."""

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import responses
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from clerk_integration.models import LearnedInstance, WebhookDelivery
from clerk_integration.webhooks import registry
from clerk_integration.webhooks.registry import ClerkEvent
from clerk_integration.webhooks.retention import purge_deliveries
from clerk_integration.webhooks.samples import SAMPLE_TYPES
from tests.webhooks import PATH, WebhookSender, new_signing_secret
from tests.workers import database_url, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[3]
EVENT_TYPE = "replay_test.happened"
RECEIVER = f"http://127.0.0.1:8000{PATH}"

Status = WebhookDelivery.Status

_handled: list[str] = []


def _handle(event: ClerkEvent) -> None:
    _handled.append(event.data["name"])
    if event.data.get("interrupt"):
        signal.raise_signal(event.data["interrupt"])
    if event.data.get("fail"):
        raise RuntimeError("no luck\nat all")


registry.register(EVENT_TYPE, _handle)


@pytest.fixture(autouse=True)
def handled() -> list[str]:
    """The names of the events that were handled, in order."""
    _handled.clear()
    return _handled


def delivery(
    name: str, status: str = "received", *, hours_ago: float = 0, event_type: str = EVENT_TYPE, **data: Any
) -> WebhookDelivery:
    return WebhookDelivery.objects.create(
        svix_id=f"msg_{name}",
        event_type=event_type,
        payload={"object": "event", "type": event_type, "data": {"name": name, **data}},
        status=status,
        received_at=timezone.now() - timedelta(hours=hours_ago),
    )


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def statuses() -> dict[str, str]:
    return {
        svix_id[4:]: status for svix_id, status in WebhookDelivery.objects.values_list("svix_id", "status")
    }


def test_replay_processes_what_is_received_oldest_first(handled: list[str]) -> None:
    delivery("a", hours_ago=1)
    delivery("b")
    delivery("failed", "failed")
    delivery("processed", "processed")
    delivery("ignored", "ignored")

    out = run("process_clerk_webhooks")

    assert handled == ["a", "b"]
    assert out.splitlines()[1:] == ["processed: 2", "ignored: 0", "failed: 0"]
    assert statuses()["failed"] == "failed"


def test_replay_with_failed_processes_failed_ones_too(handled: list[str]) -> None:
    delivery("a", "failed")
    delivery("b")
    run("process_clerk_webhooks", "--failed")
    assert handled == ["a", "b"]
    assert set(statuses().values()) == {"processed"}


@pytest.mark.parametrize(
    "since",
    [
        "150m",
        "1d",
        (datetime.now(UTC) - timedelta(hours=3)).isoformat(),
        (datetime.now(UTC) - timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M"),
        (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d"),
    ],
    ids=["minutes", "days", "time with zone", "time", "date"],
)
def test_replay_since_leaves_out_what_arrived_earlier(handled: list[str], since: str) -> None:
    delivery("old", hours_ago=72)
    delivery("new", hours_ago=2)
    run("process_clerk_webhooks", "--since", since)
    assert handled == ["new"]


@pytest.mark.usefixtures("new_york_without_use_tz")
def test_replay_since_a_time_without_a_zone_is_in_utc_whatever_time_zone_is(handled: list[str]) -> None:
    delivery("old", hours_ago=4)
    delivery("new", hours_ago=2)
    run("process_clerk_webhooks", "--since", f"{datetime.now(UTC) - timedelta(hours=3):%Y-%m-%dT%H:%M}")
    assert handled == ["new"]


@pytest.mark.parametrize("since", ["yesterday", "3", "2026-13-01", "2026-02-30", "-2h", "9999999h", ""])
def test_replay_since_a_time_that_is_none_is_refused(since: str) -> None:
    with pytest.raises(CommandError, match="is not a time"):
        run("process_clerk_webhooks", f"--since={since}")


def test_replay_since_and_purge_older_than_of_more_than_100_years_are_refused() -> None:
    delivery("a", "processed", hours_ago=1000)
    for command, option in (
        ("process_clerk_webhooks", "--since"),
        ("purge_webhook_deliveries", "--older-than"),
    ):
        run(command, option, "36500d")
        with pytest.raises(CommandError, match="'999999w' is too long; write at most 36500d"):
            run(command, option, "999999w")


def test_replay_with_failures_continues_and_exits_with_1(handled: list[str]) -> None:
    for name, fails in (("a", False), ("b", True), ("c", False)):
        delivery(name, fail=fails)

    out = StringIO()
    with pytest.raises(CommandError, match="1 webhook failed") as error:
        call_command("process_clerk_webhooks", stdout=out)

    assert error.value.returncode == 1
    assert handled == ["a", "b", "c"]
    failure, _, *summary = out.getvalue().splitlines()
    assert failure.startswith(f"failed: {EVENT_TYPE} msg_b (delivery ")
    assert failure.endswith(": RuntimeError: no luck at all")
    assert summary == ["processed: 2", "ignored: 0", "failed: 1"]
    assert statuses() == {"a": "processed", "b": "failed", "c": "processed"}


def test_replay_as_json_ends_with_one_object() -> None:
    delivery("a")
    delivery("b", fail=True)
    delivery("c", event_type="replay_test.unknown")
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("process_clerk_webhooks", "--json", stdout=out)
    summary = json.loads(out.getvalue().splitlines()[-1])
    assert {key: summary[key] for key in ("processed", "ignored", "failed", "interrupted")} == {
        "processed": 1,
        "ignored": 1,
        "failed": 1,
        "interrupted": False,
    }
    assert summary["failures"][0]["svix_id"] == "msg_b"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_replay_after_a_signal_ends_with_its_summary_and_can_be_repeated(
    handled: list[str], number: signal.Signals
) -> None:
    delivery("a")
    stuck = delivery("b", interrupt=number)
    delivery("c")

    out, handler = StringIO(), signal.getsignal(number)
    with pytest.raises(CommandError, match="run the same command again") as error:
        call_command("process_clerk_webhooks", "--json", stdout=out)

    assert (error.value.returncode, signal.getsignal(number)) == (130, handler)
    summary = json.loads(out.getvalue().splitlines()[-1])
    assert (summary["processed"], summary["failed"], summary["interrupted"]) == (1, 0, True)
    assert statuses() == {"a": "processed", "b": "received", "c": "received"}
    stuck.payload["data"]["interrupt"] = 0
    stuck.save()
    run("process_clerk_webhooks")
    assert handled == ["a", "b", "b", "c"]


def test_replay_shows_how_far_it_came(handled: list[str]) -> None:
    for name in ("a", "b", "c"):
        delivery(name, interrupt=signal.SIGINT if name == "c" else 0)

    out = StringIO()
    with pytest.raises(CommandError):
        call_command("process_clerk_webhooks", stdout=out)

    assert out.getvalue().startswith("webhooks: 2 of 3, ")


def test_purge_deletes_old_processed_and_ignored_ones_only() -> None:
    for status in Status.values:
        delivery(f"old {status}", status, hours_ago=31 * 24)
        delivery(f"new {status}", status, hours_ago=29 * 24)

    out = run("purge_webhook_deliveries")

    assert out.startswith("webhook deliveries: 2 of 2, ")
    assert out.endswith("\ndeleted: 2\n")

    assert set(statuses()) == {
        "old received",
        "old failed",
        *(f"new {status}" for status in Status.values),
    }


def test_purge_of_more_than_one_batch_deletes_all() -> None:
    many_old(2_501)
    assert list(purge_deliveries(timedelta(hours=28))) == [1_000, 1_000, 501]
    assert not WebhookDelivery.objects.exists()


def many_old(count: int) -> None:
    received_at = timezone.now() - timedelta(hours=100)
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(svix_id=f"msg_{n}", event_type="x", status="ignored", received_at=received_at)
        for n in range(count)
    )


def test_purge_as_json_ends_with_one_object() -> None:
    many_old(1_001)
    out = run("purge_webhook_deliveries", "--older-than", "28h", "--json")
    assert json.loads(out.splitlines()[-1]) == {"deleted": 1_001, "interrupted": False}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_purge_after_a_signal_reports_the_count_and_can_be_repeated(number: signal.Signals) -> None:
    many_old(2_001)
    command = [sys.executable, str(ROOT / "manage.py"), "purge_webhook_deliveries"]
    command += ["--older-than", "28h", "--json"]
    environment = {**os.environ, "DATABASE_URL": database_url()}

    with transaction.atomic():
        # The second batch waits for a row.
        WebhookDelivery.objects.select_for_update().get(svix_id="msg_1500")
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as purge:
            wait_until(lambda: purge.poll() is not None or WebhookDelivery.objects.count() == 1_001)
            purge.send_signal(number)
            out, errors = purge.communicate(timeout=60)

    assert purge.returncode == 130, errors
    assert json.loads(out.splitlines()[-1]) == {"deleted": 1_000, "interrupted": True}
    assert b"Deleted: 1,000 webhook deliveries. Run the same command again to resume" in errors
    assert WebhookDelivery.objects.count() == 1_001
    assert run("purge_webhook_deliveries", "--older-than", "28h").endswith("\ndeleted: 1,001\n")


@pytest.mark.parametrize("age", ["27h", "1d", "0s"])
def test_purge_within_the_senders_retries_is_refused_with_the_reason(age: str) -> None:
    delivery("a", "processed", hours_ago=1000)
    with pytest.raises(CommandError, match=r"28 hours at least.*Nothing was deleted"):
        run("purge_webhook_deliveries", "--older-than", age)
    assert statuses() == {"a": "processed"}


def test_purge_older_than_takes_a_duration() -> None:
    delivery("a", "processed", hours_ago=40)
    delivery("b", "processed", hours_ago=20)
    run("purge_webhook_deliveries", "--older-than", "28h")
    assert set(statuses()) == {"b"}
    with pytest.raises(CommandError, match="is not a duration"):
        run("purge_webhook_deliveries", "--older-than", "a month")


def forward(request: Any) -> tuple[int, dict[str, str], bytes]:
    """Hand a request of the command to the project's own receiver."""
    headers = {name: request.headers[name] for name in request.headers if name.lower().startswith("svix-")}
    response = Client().post(PATH, request.body, content_type="application/json", headers=headers)
    return response.status_code, {}, response.content


@responses.activate
@pytest.mark.parametrize("event_type", SAMPLE_TYPES)
def test_sample_is_taken_and_processed(clerk: WebhookSender, event_type: str) -> None:
    responses.add_callback(responses.POST, RECEIVER, forward)

    out = run("send_test_webhook", event_type, "--organization-id", "org_sample")

    stored = WebhookDelivery.objects.get()
    assert out == f"{event_type} {stored.svix_id}: 204 No Content\n"
    assert (stored.event_type, stored.status) == (event_type, "received")
    assert stored.organization_id == (None if event_type == "user.deleted" else "org_sample")
    run("process_clerk_webhooks")
    assert set(statuses().values()) == {"processed"}


@responses.activate
def test_sample_goes_to_the_url_and_names_a_new_organization_each_time(clerk: WebhookSender) -> None:
    url = "http://127.0.0.1:1234/hook"
    responses.add_callback(responses.POST, url, forward)
    for _ in range(2):
        run("send_test_webhook", "organization.created", "--url", url)
    assert WebhookDelivery.objects.values("organization_id").distinct().count() == 2


API_ERROR = {"errors": [{"code": "foreign_instance", "detail": "Nothing was stored: other instance."}]}


@responses.activate
@pytest.mark.parametrize(
    ("status", "body", "shown", "explained"),
    [
        (400, json.dumps(API_ERROR), "400 Bad Request foreign_instance", "same CLERK_INSTANCE_ID"),
        (404, "<html>", "404 Not Found", "its path is /api/v1/webhooks/clerk"),
        (302, "", "302 Found", "redirects to http://127.0.0.1:1/"),
        (204, "", "204 No Content", None),
        (200, "<html>", "200 OK", "did not answer as our receiver does"),
        (403, '{"detail": "no"}', "403 Forbidden", "did not answer as our receiver does"),
        (503, '{"errors": []}', "503 Service Unavailable", "did not answer as our receiver does"),
    ],
)
def test_sample_prints_the_answer_and_explains_a_refusal(
    clerk: WebhookSender, status: int, body: str, shown: str, explained: str | None
) -> None:
    responses.add(responses.POST, RECEIVER, body, status=status, headers={"location": "http://127.0.0.1:1/"})
    out = StringIO()
    expected = (
        nullcontext() if explained is None else pytest.raises(CommandError, match=f"not stored.*{explained}")
    )
    with expected:
        call_command("send_test_webhook", "user.deleted", stdout=out)
    assert out.getvalue().endswith(f": {shown}\n")


@pytest.mark.parametrize(
    ("url", "explained"),
    [
        ("http://127.0.0.1:9/", "Nothing answers at http://127.0.0.1:9/. Start the server first"),
        ("127.0.0.1:8000", "is not an http or https URL"),
        ("http://[::1", "is not an http or https URL"),
        ("ftp://127.0.0.1/", "is not an http or https URL"),
        ("", "is not an http or https URL"),
    ],
)
def test_sample_to_a_wrong_url_explains_it(clerk: WebhookSender, url: str, explained: str) -> None:
    with pytest.raises(CommandError) as failure:
        run("send_test_webhook", "user.deleted", "--url", url)
    assert explained in str(failure.value)


@responses.activate
def test_sample_to_a_receiver_with_another_secret_says_so(clerk: WebhookSender, settings: Settings) -> None:
    def forward_with_another_secret(request: Any) -> tuple[int, dict[str, str], bytes]:
        settings.CLERK_WEBHOOK_SIGNING_SECRET = [new_signing_secret()]
        return forward(request)

    responses.add_callback(responses.POST, RECEIVER, forward_with_another_secret)
    with pytest.raises(CommandError, match="the same CLERK_WEBHOOK_SIGNING_SECRET"):
        run("send_test_webhook", "user.deleted")


@pytest.mark.parametrize("organization_id", ["bogus", "org_", "org_a/b", "user_1", f"org_{'a' * 252}"])
def test_sample_of_no_organization_of_clerks_is_not_sent(clerk: WebhookSender, organization_id: str) -> None:
    with pytest.raises(CommandError, match="is not an organization id"):
        run("send_test_webhook", "organization.created", "--organization-id", organization_id)


def test_sample_of_an_unknown_type_is_refused(clerk: WebhookSender) -> None:
    with pytest.raises(CommandError, match=r"invalid choice.*organization\.created"):
        run("send_test_webhook", "organization.renamed")


def test_sample_without_a_signing_secret_is_not_sent(clerk: WebhookSender, settings: Settings) -> None:
    settings.CLERK_WEBHOOK_SIGNING_SECRET = ["whsec_"]
    with pytest.raises(CommandError, match="CLERK_WEBHOOK_SIGNING_SECRET"):
        run("send_test_webhook", "user.deleted")


@responses.activate
def test_sample_carries_the_stored_instance_and_is_not_sent_without_one(
    clerk: WebhookSender, settings: Settings
) -> None:
    settings.CLERK_INSTANCE_ID = ""
    with pytest.raises(CommandError, match="CLERK_INSTANCE_ID is not set"):
        run("send_test_webhook", "user.deleted")

    LearnedInstance.objects.create(instance_id="ins_learned")
    responses.add(responses.POST, RECEIVER, status=204)
    run("send_test_webhook", "user.deleted")
    assert '"instance_id": "ins_learned"' in str(responses.calls[0].request.body)
