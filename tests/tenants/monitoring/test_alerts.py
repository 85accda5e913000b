"""Problems are sent to SYNC_ALERT_WEBHOOK_URL once, and so is the all-clear."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
import responses
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from procrastinate.contrib.django.models import ProcrastinateWorker
from pytest_django import Settings

from clerk_integration.models import LearnedInstance, WebhookDelivery, WebhookRefusal
from tenants.models import Alert, SyncRun
from tenants.monitoring.alerts import send_alerts
from tenants.tasks import send_alerts as periodic_task

pytestmark = pytest.mark.django_db

SECRET = "T0001/B0002/of-a-channel"
URL = f"https://hooks.example.com/services/{SECRET}"
HOUR = timedelta(hours=1)


@pytest.fixture
def slack(settings: Settings) -> Iterator[responses.RequestsMock]:
    settings.SYNC_ALERT_WEBHOOK_URL = URL
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def healthy() -> None:
    """A deployment without a problem: a worker, and a full sync of an hour ago."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    run(SyncRun.Kind.FULL_SYNC, SyncRun.State.COMPLETED, hours=1, skip_memberships=False)


def run(kind: SyncRun.Kind, state: SyncRun.State, hours: float, error: str = "", **cursor: Any) -> None:
    SyncRun.objects.create(
        kind=kind, state=state, started_at=Now() - hours * HOUR, error=error, cursor=cursor
    )


def texts(slack: responses.RequestsMock) -> list[str]:
    return [json.loads(call.request.body or "")["text"] for call in slack.calls]


def pass_minutes(minutes: int) -> None:
    """Let the stored alerts be older."""
    age = timedelta(minutes=minutes)
    Alert.objects.update(found_at=F("found_at") - age, sent_at=F("sent_at") - age)


def stop_workers() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")


def fail_deliveries() -> None:
    WebhookDelivery.objects.create(svix_id="msg_1", event_type="user.deleted", status="failed", due_at=None)


def refuse_webhooks() -> None:
    WebhookRefusal.objects.create(code="foreign_instance")


def refuse_signatures() -> None:
    WebhookRefusal.objects.create(code="invalid_signature")


def fail_sync() -> None:
    run(SyncRun.Kind.FULL_SYNC, SyncRun.State.FAILED, hours=0.5, error="Lines\nbefore\nthe key is wrong")


def age_sync() -> None:
    SyncRun.objects.update(started_at=Now() - 27 * HOUR)


def lose_sync() -> None:
    SyncRun.objects.all().delete()
    LearnedInstance.objects.create(instance_id="ins_1", learned_at=Now() - 30 * HOUR)


def drift() -> None:
    run(SyncRun.Kind.DRY_RUN, SyncRun.State.COMPLETED, hours=1, skip_memberships=False)
    SyncRun.objects.filter(kind=SyncRun.Kind.DRY_RUN).update(created=8, updated=3)


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("break_something", "kind", "part"),
    [
        (fail_sync, "sync_failed", "failed: the key is wrong. What it wrote is kept."),
        (age_sync, "sync_age", "in the last 27 hours; SYNC_ALERT_AGE_HOURS is 26."),
        (lose_sync, "sync_age", "in the last 30 hours"),
        (fail_deliveries, "deliveries_failing", "1 webhook delivery fails."),
        (refuse_webhooks, "webhooks_refused", "Webhooks were refused in the last hour: foreign_instance."),
        (refuse_signatures, "webhooks_refused", "invalid_signature"),
        (
            drift,
            "drift",
            "found 11 differences between the mirror and Clerk: 8 missing from mirror, 3 changed.",
        ),
        (stop_workers, "no_worker", "No worker is running."),
    ],
)
def test_alert_is_sent_once_after_two_minutes_and_the_all_clear_once(
    slack: responses.RequestsMock, break_something: Callable[[], None], kind: str, part: str
) -> None:
    slack.post(URL, body="ok")
    send_alerts()
    break_something()

    send_alerts()
    assert texts(slack) == []  # it may be a restart
    pass_minutes(3)
    send_alerts()
    send_alerts()

    assert len(texts(slack)) == 1
    assert f"Problem ({kind}): " in texts(slack)[0]
    assert part in texts(slack)[0]

    repair()
    send_alerts()
    send_alerts()

    assert len(texts(slack)) == 2
    assert f"Solved ({kind})." in texts(slack)[1]
    assert not Alert.objects.exists()


def repair() -> None:
    WebhookDelivery.objects.all().delete()
    WebhookRefusal.objects.all().delete()
    SyncRun.objects.all().delete()
    run(SyncRun.Kind.FULL_SYNC, SyncRun.State.COMPLETED, hours=0, skip_memberships=False)
    if not ProcrastinateWorker.objects.exists():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")


@pytest.mark.usefixtures("healthy")
def test_alert_that_ends_within_two_minutes_is_never_sent(slack: responses.RequestsMock) -> None:
    stop_workers()
    send_alerts()
    repair()
    send_alerts()

    assert texts(slack) == []
    assert not Alert.objects.exists()


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("column", ["found_at", "claimed_until"])
def test_alert_after_the_clock_was_set_back_is_sent(slack: responses.RequestsMock, column: str) -> None:
    slack.post(URL)
    fail_sync()
    send_alerts()
    pass_minutes(3)
    Alert.objects.update(**{column: Now() + HOUR})

    send_alerts()

    assert len(texts(slack)) == 1


@pytest.mark.usefixtures("healthy")
def test_alert_is_repeated_after_a_day(slack: responses.RequestsMock) -> None:
    slack.post(URL, body="ok")
    stop_workers()
    for minutes in (3, 60, 24 * 60):
        send_alerts()
        pass_minutes(minutes)
    send_alerts()

    assert len(texts(slack)) == 2


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    "failure",
    [
        {"status": 500},
        {"status": 302, "headers": {"Location": "http://169.254.169.254/"}},
        {"body": requests.ConnectionError(f"{URL} refused")},
    ],
    ids=["500", "redirect", "no connection"],
)
def test_alert_that_is_not_accepted_is_sent_again_by_the_next_check(
    slack: responses.RequestsMock, caplog: pytest.LogCaptureFixture, failure: dict[str, Any]
) -> None:
    slack.add(responses.POST, URL, **failure)
    stop_workers()
    send_alerts()
    pass_minutes(3)
    with caplog.at_level(logging.DEBUG):
        send_alerts()
    slack.replace(responses.POST, URL, body="ok")
    send_alerts()

    assert len(texts(slack)) == 2
    assert [call.request.url for call in slack.calls] == [URL, URL]  # redirects are not followed
    assert len(caplog.messages) == 1
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("healthy")
def test_refused_signatures_beside_genuine_webhooks_are_no_problem(slack: responses.RequestsMock) -> None:
    refuse_signatures()
    WebhookDelivery.objects.create(svix_id="msg_1", event_type="user.deleted", status="processed")

    assert send_alerts() == {}


@pytest.mark.usefixtures("healthy")
def test_text_of_an_error_cannot_form_links_or_lines(slack: responses.RequestsMock) -> None:
    slack.post(URL, body="ok")
    run(
        SyncRun.Kind.FULL_SYNC,
        SyncRun.State.FAILED,
        hours=0,
        error="<https://evil.example|Click>\x1b[2J" * 90,
    )
    send_alerts()
    pass_minutes(3)
    send_alerts()

    [text] = texts(slack)
    assert "<" not in text
    assert text.isprintable()
    assert len(text) < 1000


def test_without_the_setting_nothing_is_read_or_written(settings: Settings) -> None:
    settings.SYNC_ALERT_WEBHOOK_URL = ""

    assert send_alerts() == {}
    assert not Alert.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("healthy")
def test_alert_found_by_several_processes_at_once_is_sent_once(slack: responses.RequestsMock) -> None:
    slack.post(URL, body="ok")
    stop_workers()
    send_alerts()
    pass_minutes(3)
    together = threading.Barrier(4)

    def check() -> None:
        together.wait()
        try:
            send_alerts()
        finally:
            connection.close()

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(texts(slack)) == 1


@pytest.mark.usefixtures("healthy")
def test_periodic_task_checks(slack: responses.RequestsMock) -> None:
    fail_deliveries()
    periodic_task(0)

    assert Alert.objects.get().kind == "deliveries_failing"


@pytest.mark.usefixtures("healthy")
def test_command_prints_problems_and_sends_a_test_message(
    slack: responses.RequestsMock, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    slack.post(URL, body="ok")
    stop_workers()
    call_command("send_alerts")
    assert "no_worker: No worker is running." in capsys.readouterr().out
    call_command("send_alerts", "--test")
    assert len(texts(slack)) == 1

    slack.replace(responses.POST, URL, status=404)
    with pytest.raises(CommandError, match="was not accepted"):
        call_command("send_alerts", "--test")
    settings.SYNC_ALERT_WEBHOOK_URL = ""
    with pytest.raises(CommandError, match="SYNC_ALERT_WEBHOOK_URL is not set"):
        call_command("send_alerts")
