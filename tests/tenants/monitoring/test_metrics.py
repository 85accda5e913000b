"""`/metrics`: what it counts, who may read it, and how the processes of a deployment are summed."""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import requests
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from clerk_integration.exceptions import ClerkError
from clerk_integration.organizations import create_clerk_org, get_clerk_org
from clerk_integration.web_requests import begin_request, end_request
from clerk_integration.webhooks.drain import drain
from tenants.models import SyncRun
from tenants.monitoring.deployment_metrics import DATABASE_UP, DRIFT, GAUGES, RUNS
from tests.sandbox import SandboxControl
from tests.web_server import web_server
from tests.webhooks import PATH
from tests.workers import Workers, deliver, wait_until

Sample = tuple[str, frozenset[tuple[str, str]]]
Samples = dict[Sample, float]

TOKEN = "of a test"


def parsed(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def scraped(client: Client) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return parsed(answer.content.decode())


class Growth:
    """How much a metric has grown since the beginning of a test."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before = scraped(client)

    def __call__(self, name: str, **labels: str) -> float:
        return value(scraped(self._client), name, **labels) - value(self._before, name, **labels)


@pytest.fixture
def growth(transactional_db: None, client: Client) -> Growth:
    return Growth(client)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("token", "header", "status"),
    [
        ("", None, 200),
        (TOKEN, f"Bearer {TOKEN}", 200),
        (TOKEN, f"bearer {TOKEN}", 200),
        (TOKEN, None, 401),
        (TOKEN, TOKEN, 401),
        (TOKEN, "Bearer another", 401),
        (TOKEN, "Bearer ümlaut", 401),
        (TOKEN, f"Basic {TOKEN}", 401),
    ],
)
def test_metrics_are_behind_the_token_if_one_is_set(
    client: Client, settings: Settings, token: str, header: str | None, status: int
) -> None:
    settings.METRICS_TOKEN = token
    headers = {"host": "10.1.2.3", **({"authorization": header} if header else {})}

    answer = client.get("/metrics", headers=headers)

    assert answer.status_code == status
    assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (status == 401)
    assert (b"tenants_workers" in answer.content) == (status == 200)


def test_metrics_are_read_with_get_only(client: Client) -> None:
    assert client.post("/metrics").status_code == 405


def test_clerk_requests_are_counted_by_operation_and_outcome(
    sandbox: SandboxControl, growth: Growth, client: Client
) -> None:
    organization = sandbox.organization(created_by=sandbox.user()["id"])
    get_clerk_org(organization["id"])
    for kind in ({"rateLimit": 1}, {"status": 404}):
        sandbox.fault("GET /v1/organizations/*", **kind)
    sandbox.fault("POST /v1/organizations", reset=True)
    for _ in range(2):
        with contextlib.suppress(ClerkError):
            get_clerk_org("org_unknown")
    with contextlib.suppress(ClerkError):
        create_clerk_org("Acme", organization["created_by"])

    get, name = "GET /organizations/{id}", "clerk_request_seconds_count"
    assert growth(name, operation=get, outcome="200") == 1
    assert growth(name, operation=get, outcome="429") == 1
    assert growth(name, operation=get, outcome="404") >= 1
    assert growth(name, operation="POST /organizations", outcome="unanswered") == 1
    labels = {label for _, labels in scraped(client) for _, label in labels}
    assert not [label for label in labels if "org_" in label or "user_" in label]


def ask_as_web_request() -> None:
    begin_request()
    with contextlib.suppress(ClerkError):
        get_clerk_org("org_unknown")
    end_request()


@pytest.mark.slow
def test_breaker_that_opens_is_counted_until_it_closes(
    sandbox: SandboxControl, client: Client, growth: Growth
) -> None:
    def open_breakers() -> float:
        # Not the growth: an earlier test may have left its breaker open.
        return value(scraped(client), "clerk_breakers_open", breaker="read")

    sandbox.fault("GET /v1/organizations/*", status=503, times=6)
    for _ in range(3):
        ask_as_web_request()

    assert open_breakers() == 1
    assert growth("clerk_requests_not_sent_total", reason="breaker_open") == 1

    def is_closed() -> bool:
        ask_as_web_request()
        return open_breakers() == 0

    wait_until(is_closed)


def test_webhooks_are_counted_by_type_and_outcome_with_their_lag(
    client: Client, growth: Growth, sandbox: SandboxControl, signed_webhook: Callable[..., Any]
) -> None:
    event = "organization.updated"
    genuine = signed_webhook(event, sandbox.organization())
    for webhook in (genuine, genuine, signed_webhook("made.up", {}), signed_webhook(event, {"id": "none"})):
        assert client.post(PATH, **webhook).status_code == 204
    drain()
    drain()
    drain()

    received, tried = "clerk_webhooks_received_total", "clerk_webhooks_tried_total"
    assert growth(received, event_type=event, outcome="stored") == 2
    assert growth(received, event_type=event, outcome="repeated") == 1
    assert growth(received, event_type="other", outcome="stored") == 1
    assert growth(tried, event_type=event, outcome="processed") == 1
    assert growth(tried, event_type=event, outcome="failed") == 1
    assert growth("clerk_webhook_lag_seconds_count") == 1


def test_numbers_of_the_database_are_read_at_each_scrape(transactional_db: None, client: Client) -> None:
    before = scraped(client)
    assert value(before, "tenants_complete_sync_age_seconds") == float("inf")
    for kind, hours in ((SyncRun.Kind.FULL_SYNC, 2), (SyncRun.Kind.DRY_RUN, 3)):
        SyncRun.objects.create(
            kind=kind,
            state=SyncRun.State.COMPLETED,
            started_at=Now() - timedelta(hours=hours),
            cursor={"skip_memberships": False},
            created=7,
        )

    after = scraped(client)

    assert value(after, "tenants_complete_sync_age_seconds") == pytest.approx(7200, abs=60)
    assert value(after, "tenants_dry_run_age_seconds") == pytest.approx(10800, abs=60)
    assert value(after, "tenants_drift_records", difference="missing_from_mirror") == 7
    assert value(after, "tenants_runs", kind="full_sync", state="completed") == 1
    assert value(after, "tenants_database_up") == 1
    exported = {name for name, _ in after}
    families = [DATABASE_UP[0], RUNS[0], DRIFT[0], *(name for name, _, _ in GAUGES)]
    assert set(families) <= exported


def test_requests_are_counted_by_view_and_status(client: Client, growth: Growth) -> None:
    client.get("/api/v1/tenants")

    name = "django_http_responses_total_by_status_view_method_total"
    assert growth(name, view="tenants", method="GET", status="401") == 1


@pytest.mark.slow
def test_database_that_does_not_answer_in_time_leaves_the_other_metrics(
    transactional_db: None, client: Client
) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE sync_runs IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        samples = scraped(client)
        assert time.monotonic() - started < 10

    assert value(samples, "tenants_database_up") == 0
    assert "process_open_fds" in {name for name, _ in samples}
    assert value(scraped(client), "tenants_database_up") == 1


def get(port: int, path: str, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=30)
    return answer.status_code, answer.text


def served(port: int) -> float:
    status, text = get(port, "/metrics", TOKEN)
    assert status == 200
    name = "django_http_responses_total_by_status_view_method_total"
    return value(parsed(text), name, view="tenants", method="GET", status="401")


def workers_of_gunicorn() -> list[Any]:
    """Return the workers of the gunicorn that was started last: tests in a browser keep one for a module."""
    found = [child for child in psutil.Process().children() if "gunicorn" in " ".join(child.cmdline())]
    return list(max(found, key=lambda child: child.create_time()).children())


@pytest.mark.slow
def test_metrics_of_gunicorn_are_summed_over_its_workers_dead_ones_included(tmp_path: Path) -> None:
    options = ("--workers", "3", "--threads", "2")
    environment = {"METRICS_TOKEN": TOKEN, "DATABASE_URL": "postgres://nobody@127.0.0.1:9/nothing"}
    with web_server(*options, output=subprocess.DEVNULL, TMPDIR=str(tmp_path), **environment) as port:
        for _ in range(60):
            assert get(port, "/api/v1/tenants")[0] == 401
        assert served(port) == 60
        [directory] = tmp_path.glob("tenants-metrics-*")
        killed = workers_of_gunicorn()[:2]
        written = {directory / f"counter_{child.pid}.db" for child in killed}

        for child in killed:
            child.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(path.exists() for path in written))

        for _ in range(20):
            assert served(port) == 60
            get(port, "/api/v1/unknown")
    assert list(tmp_path.glob("tenants-metrics-*")) == []


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_worker_exports_its_metrics_behind_the_token(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    workers.start("--metrics-port", str(port))
    deliver()

    def processed() -> float:
        samples = parsed(get(port, "/metrics", TOKEN)[1])
        return value(samples, "clerk_webhooks_tried_total", event_type="test.apply", outcome="processed")

    wait_until(lambda: processed() == 1)
    assert DATABASE_UP[0] not in get(port, "/metrics", TOKEN)[1]  # a number of the deployment
    assert [get(port, "/metrics")[0], get(port, "/", TOKEN)[0]] == [401, 404]


def test_worker_does_not_start_if_its_port_for_metrics_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=rf"127\.0\.0\.1:{port}: .* The worker was not started"):
            call_command("procrastinate", "worker", "--metrics-port", str(port))


@pytest.mark.parametrize(("port", "address"), [("99999", "127.0.0.1"), ("9100", "\xe4..x")])
def test_worker_does_not_start_with_metrics_at_an_address_that_is_none(port: str, address: str) -> None:
    with pytest.raises(CommandError, match="Choose another port or address"):
        call_command("procrastinate", "worker", "--metrics-port", port, "--metrics-address", address)
