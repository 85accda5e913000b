"""Liveness and readiness."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from clerk_integration.exceptions import ClerkMisconfigured, ClerkUnavailable
from clerk_integration.models import WebhookDelivery
from config.health import CLERK_INTERVAL_SECONDS, CLERK_RETRY_SECONDS, ClerkProbe, ReadinessView

Json = dict[str, Any]

ASK_READYZ = """
import django; django.setup()
from django.test import Client, RequestFactory
response = Client().get("/readyz")
print(response.status_code, response.json()["checks"]["database"], flush=True)
import os; os._exit(0)
"""


def test_healthz_answers_without_database_and_network(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_endpoints_answer_for_any_host_and_over_plain_http(
    client: Client, settings: Settings, path: str
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(path, headers={"host": "10.1.2.3:8000"}).status_code == 200


ALL_OK = dict.fromkeys(["database", "migrations", "queue", "workers"], "ok")


def clerk_state(expected: str, raised: Exception | None = None) -> ClerkProbe:
    """Return a state of Clerk that has become `expected` because its request raised `raised`."""
    look = Look()
    look.finds = raised
    state = ClerkProbe(look)
    assert eventually(state, expected)
    return state


def readyz(state: ClerkProbe | None = None, **headers: str) -> tuple[int, Json]:
    """Return the status and body of `/readyz` while Clerk is in `state`."""
    view = ReadinessView.as_view(clerk_state=state or clerk_state("ok"))
    response = async_to_sync(view)(RequestFactory().get("/readyz", headers=headers))
    assert "no-store" in response["Cache-Control"]
    return response.status_code, json.loads(response.content)


@pytest.fixture
def worker(transactional_db: None) -> Iterator[None]:
    """A worker that has just sent a heartbeat."""
    with added("INSERT INTO procrastinate_workers DEFAULT VALUES", removed_by="procrastinate_workers"):
        yield


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json", "nonsense"])
def test_readyz_with_everything_in_place_is_ready_and_json(accept: str) -> None:
    assert readyz(accept=accept) == (200, {"status": "ready", "checks": ALL_OK, "clerk": "ok"})


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("raised", "shown"), [(ClerkUnavailable("x"), "unavailable"), (ClerkMisconfigured("x"), "misconfigured")]
)
def test_readyz_while_clerk_fails_is_degraded(raised: Exception, shown: str) -> None:
    state = clerk_state(shown, raised)
    assert readyz(state) == (200, {"status": "degraded", "checks": ALL_OK, "clerk": shown})


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("heartbeat", [None, "now() - interval '1 hour'"])
def test_readyz_without_a_live_worker_is_degraded(heartbeat: str | None) -> None:
    insert = f"INSERT INTO procrastinate_workers (last_heartbeat) VALUES ({heartbeat})" if heartbeat else ""
    with added(insert or "SELECT 1", removed_by="procrastinate_workers"):
        code, body = readyz()
    assert (code, body["status"]) == (200, "degraded")
    reason = "Warning: no worker is running: start `manage.py procrastinate worker`"
    assert body["checks"] == {**ALL_OK, "workers": reason}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("count", "minutes", "expected"),
    [
        (0, 0, "ok"),
        (3, 5, "ok"),
        (1, 12, "Warning: 1 job is waiting, the oldest for 12 minutes: start more workers"),
        (9, 12, "Warning: 9 jobs are waiting, the oldest for 12 minutes: start more workers"),
        (9, -60, "ok"),
    ],
)
def test_readyz_with_waiting_jobs_is_degraded_when_the_oldest_is_old(
    count: int, minutes: int, expected: str
) -> None:
    jobs = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)"
        f" SELECT 'q', 't', now() - interval '{minutes} minutes' FROM generate_series(1, {count})"
    )
    with added(jobs, removed_by="procrastinate_jobs"):
        code, body = readyz()
    assert body["checks"] == {**ALL_OK, "queue": expected}
    assert (code, body["status"]) == (200, "ready" if expected == "ok" else "degraded")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("count", "minutes", "expected"),
    [
        (3, 5, "ok"),
        (1, 12, "Warning: 1 webhook is waiting, the oldest for 12 minutes: start more workers"),
        (9, 12, "Warning: 9 webhooks are waiting, the oldest for 12 minutes: start more workers"),
        (9, -60, "ok"),
    ],
)
def test_readyz_with_waiting_webhooks_is_degraded_when_the_oldest_is_old(
    count: int, minutes: int, expected: str
) -> None:
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(svix_id=f"msg_{number}", due_at=timezone.now() - timedelta(minutes=minutes))
        for number in range(count)
    )
    code, body = readyz()
    assert body["checks"] == {**ALL_OK, "queue": expected}
    assert (code, body["status"]) == (200, "ready" if expected == "ok" else "degraded")


@pytest.mark.usefixtures("worker")
def test_readyz_with_a_job_deferred_long_ago_is_degraded() -> None:
    job = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't');"
        "UPDATE procrastinate_events SET at = now() - interval '12 minutes'"
    )
    with added(job, removed_by="procrastinate_jobs"):
        body = readyz()[1]
    assert body["checks"]["queue"].startswith("Warning: 1 job is waiting, the oldest for 12 ")


@pytest.mark.usefixtures("worker")
def test_readyz_with_a_retried_job_before_an_old_one_is_degraded() -> None:
    jobs = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)"
        " VALUES ('q', 't', now()), ('q', 't', now() - interval '12 minutes')"
    )
    with added(jobs, removed_by="procrastinate_jobs"):
        body = readyz()[1]
    assert body["checks"]["queue"] == (
        "Warning: 2 jobs are waiting, the oldest for 12 minutes: start more workers"
    )


@pytest.mark.usefixtures("worker")
def test_readyz_with_a_read_only_database_is_degraded() -> None:
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with without(
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        restored_by=f"ALTER DATABASE {name} RESET default_transaction_read_only",
    ):
        code, body = readyz()
    assert (code, body["status"]) == (200, "degraded")
    assert body["checks"]["database"].startswith("Warning: the database is read-only")


@pytest.mark.django_db(transaction=True)
def test_readyz_with_a_migration_not_applied_is_unready_and_names_the_app(client: Client) -> None:
    with without("DELETE FROM django_migrations WHERE app = 'tenants'", restored_by=insert_back("tenants")):
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "unready"
    assert response.json()["checks"]["migrations"].endswith("not applied for tenants")


@pytest.mark.django_db(transaction=True)
def test_readyz_without_the_tables_of_the_queue_is_unready(client: Client) -> None:
    away = "ALTER TABLE procrastinate_jobs RENAME TO procrastinate_jobs_away"
    back = "ALTER TABLE procrastinate_jobs_away RENAME TO procrastinate_jobs"
    with without(away, restored_by=back):
        response = client.get("/readyz")
    assert response.status_code == 503
    assert "the queue has no tables" in response.json()["checks"]["queue"]


def insert_back(app: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT app, name, applied::text FROM django_migrations WHERE app = %s", [app])
        rows = ", ".join(f"('{app}', '{name}', '{applied}')" for app, name, applied in cursor.fetchall())
    return f"INSERT INTO django_migrations (app, name, applied) VALUES {rows}"


@contextmanager
def added(statement: str, *, removed_by: str) -> Iterator[None]:
    """Empty the table, add rows for the block, and empty the table again."""
    empty = f"TRUNCATE {removed_by} CASCADE"
    with without(f"{empty}; {statement}", restored_by=empty):
        yield


@contextmanager
def without(statement: str, *, restored_by: str) -> Iterator[None]:
    """Take something away from the database for the block."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        try:
            yield
        finally:
            cursor.execute(restored_by)


@contextmanager
def silent_database() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def readyz_of_a_process_with(database_url: str) -> str:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LOG_FORMAT": "json",
    }
    finished = subprocess.run(
        [sys.executable, "-c", ASK_READYZ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return finished.stdout.strip()


@pytest.mark.slow
def test_readyz_with_a_database_that_hangs_gives_up_and_is_unready() -> None:
    with silent_database() as port:
        answer = readyz_of_a_process_with(f"postgres://nobody:secret@127.0.0.1:{port}/nothing")
    assert answer.startswith("503 Unavailable: Timed out")


@pytest.mark.django_db
def test_readyz_leaves_no_query_on_the_connection_of_the_request(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        client.get("/readyz")


class Look:
    """A check of Clerk that counts its calls and raises `finds`, if set."""

    def __init__(self) -> None:
        self.count = 0
        self.finds: Exception | None = None

    def __call__(self) -> None:
        self.count += 1
        if self.finds:
            raise self.finds


def eventually(state: ClerkProbe, expected: str) -> bool:
    give_up = time.monotonic() + 10
    while state.get() != expected and time.monotonic() < give_up:
        time.sleep(0.005)
    return state.get() == expected


@pytest.mark.parametrize(
    ("finds", "expected"),
    [(None, "ok"), (ClerkUnavailable("x"), "unavailable"), (ClerkMisconfigured("x"), "misconfigured")],
)
def test_clerk_state_tells_what_the_last_look_found(finds: Exception | None, expected: str) -> None:
    look = Look()
    look.finds = finds
    assert eventually(ClerkProbe(look), expected)


def test_clerk_state_while_the_first_look_lasts_is_unknown_at_once() -> None:
    answers = threading.Event()
    state = ClerkProbe(answers.wait)
    assert state.get() == "unknown"
    answers.set()
    assert eventually(state, "ok")


def test_clerk_state_however_often_asked_looks_once_a_minute() -> None:
    look, now = Look(), [0.0]
    state = ClerkProbe(look, clock=lambda: now[0])
    assert eventually(state, "ok")
    for _ in range(100):
        state.get()
    assert look.count == 1
    now[0] += CLERK_INTERVAL_SECONDS
    look.finds = ClerkUnavailable("x")
    assert eventually(state, "unavailable")
    assert look.count == 2


def test_clerk_state_after_a_failure_looks_again_after_seconds() -> None:
    look, now = Look(), [0.0]
    state = ClerkProbe(look, clock=lambda: now[0])
    look.finds = ClerkUnavailable("x")
    assert eventually(state, "unavailable")
    look.finds = None
    now[0] += CLERK_RETRY_SECONDS
    assert eventually(state, "ok")
    assert look.count == 2
