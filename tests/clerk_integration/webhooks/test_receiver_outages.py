"""Nothing is acknowledged that was not stored: a database that fails in every way, for real."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from django.db import close_old_connections, connection

from clerk_integration.models import WebhookDelivery
from tests.webhooks import PATH, WebhookSender, is_queued, new_instance_id, new_signing_secret
from tests.workers import empty_queue

ROOT = Path(__file__).resolve().parents[3]

DATABASE = pytest.mark.django_db(transaction=True)


@contextmanager
def when_inserting(table: str, action: str, *, timing: str = "BEFORE INSERT") -> Iterator[None]:
    """Let the database itself do something for each row that is inserted into the table."""
    kind = "CONSTRAINT TRIGGER" if "AFTER" in timing else "TRIGGER"
    deferred = "DEFERRABLE INITIALLY DEFERRED" if "AFTER" in timing else ""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION outage() RETURNS trigger LANGUAGE plpgsql "
            f"AS $$BEGIN {action}; RETURN NEW; END$$"
        )
        cursor.execute(
            f"CREATE {kind} outage {timing} ON {table} {deferred} FOR EACH ROW EXECUTE FUNCTION outage()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION outage() CASCADE")


def jobs() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs")
        return int(cursor.fetchone()[0])


def check_not_acknowledged(clerk: WebhookSender) -> None:
    """Send a webhook that must be neither stored nor acknowledged, nor its parts appear in a log."""
    before = jobs()
    response = clerk.send(clerk.event(), "msg_1")
    close_old_connections()  # Django does so at the end of every request, but not of a test client's.
    assert response.status_code == 503, response.content
    assert response.json()["errors"][0]["code"] == "not_stored"
    assert response.headers["Retry-After"] == "5"
    assert not WebhookDelivery.objects.exists()
    assert jobs() == before


DISK_FULL = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'"
CONNECTION_LOST = "PERFORM pg_terminate_backend(pg_backend_pid())"


@DATABASE
@pytest.mark.parametrize("timing", ["BEFORE INSERT", "AFTER INSERT"], ids=["at the insert", "at the commit"])
@pytest.mark.parametrize("table", ["webhook_deliveries", "procrastinate_jobs"])
@pytest.mark.parametrize("action", [DISK_FULL, CONNECTION_LOST], ids=["disk full", "connection lost"])
def test_webhook_that_the_database_does_not_take_is_503_and_taken_when_repeated(
    clerk: WebhookSender, table: str, action: str, timing: str, caplog: pytest.LogCaptureFixture
) -> None:
    empty_queue()  # a wake-up that waits would do
    with when_inserting(table, action, timing=timing):
        check_not_acknowledged(clerk)
    assert "webhook not stored" in caplog.text
    assert ("DiskFull 53100" if action is DISK_FULL else "AdminShutdown 57P01") in caplog.text

    assert clerk.send(clerk.event(), "msg_1").status_code == 204
    assert is_queued(WebhookDelivery.objects.get().id)


@DATABASE
def test_webhook_after_the_connection_was_lost_between_two_requests_is_stored(clerk: WebhookSender) -> None:
    assert clerk.send(clerk.event()).status_code == 204
    with psycopg.connect(**own_parameters(), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    assert clerk.send(clerk.event()).status_code == 204

    assert WebhookDelivery.objects.count() == 2


@DATABASE
def test_webhook_while_the_database_is_read_only_is_503_in_one_log_line(
    clerk: WebhookSender, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        check_not_acknowledged(clerk)
    finally:
        connection.close()
    ours = [record for record in caplog.records if record.name.startswith("clerk_integration")]
    assert [record.getMessage() for record in ours] == [
        "webhook not stored: ReadOnlySqlTransaction 25006: cannot execute INSERT in a read-only transaction"
    ]
    assert all(record.exc_info is None for record in caplog.records)
    assert clerk.send(clerk.event(), "msg_1").status_code == 204


@DATABASE
def test_webhook_without_any_worker_waits_in_the_queue(clerk: WebhookSender) -> None:
    assert clerk.send(clerk.event()).status_code == 204
    waiting = WebhookDelivery.objects.get()
    assert (waiting.status, waiting.attempts, is_queued(waiting.id)) == ("received", 0, True)


@DATABASE
def test_refused_row_is_not_logged(clerk: WebhookSender, caplog: pytest.LogCaptureFixture) -> None:
    event = clerk.event()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE webhook_deliveries ADD CONSTRAINT never CHECK (svix_id <> 'msg_1')")
    try:
        check_not_acknowledged(clerk)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE webhook_deliveries DROP CONSTRAINT never")
    assert "violates check constraint" in caplog.text
    assert "Acme" not in caplog.text
    assert event["data"]["id"] not in caplog.text


@DATABASE
@pytest.mark.slow
def test_webhook_that_meets_a_locked_queue_is_503_before_the_sender_gives_up(
    clerk: WebhookSender,
) -> None:
    with psycopg.connect(**own_parameters()) as other:
        other.execute("LOCK TABLE procrastinate_jobs IN SHARE ROW EXCLUSIVE MODE")
        before = time.monotonic()
        check_not_acknowledged(clerk)
        assert time.monotonic() - before < 15
        other.rollback()
    assert clerk.send(clerk.event(), "msg_1").status_code == 204


def own_parameters() -> dict[str, Any]:
    """Return what psycopg needs to connect to the test database."""
    parameters = connection.get_connection_params()
    keys = ("dbname", "user", "host", "port", "password")
    return {key: parameters[key] for key in keys if key in parameters}


class Server:
    """A real server whose database cannot be reached, and who sends webhooks to it."""

    def __init__(self, log: Path) -> None:
        self.clerk = WebhookSender(secret=new_signing_secret(), instance_id=new_instance_id())
        environment = os.environ | {
            "DATABASE_URL": "postgres://nobody@127.0.0.1:9/nothing",
            "CLERK_WEBHOOK_SIGNING_SECRET": self.clerk.secret,
            "CLERK_INSTANCE_ID": self.clerk.instance_id,
        }
        command = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi"]
        command += ["--workers", "1", "--bind", "127.0.0.1:0"]
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        self.port = self._read_port(log)

    def post(self, content: bytes | Iterator[bytes], headers: dict[str, str]) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{PATH}"
        return httpx.post(url, content=content, headers=headers, timeout=20, trust_env=False)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def _read_port(self, log: Path) -> int:
        for _ in range(600):
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()):
                return int(found[1])
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.05)
        raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server") / "server.log")
    yield running
    running.stop()


def test_webhook_while_the_database_is_down_is_503(server: Server) -> None:
    body = json.dumps(server.clerk.event()).encode()
    for _ in range(2):
        answer = server.post(body, server.clerk.headers(body))
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "not_stored")


def test_forged_webhook_while_the_database_is_down_is_400(server: Server) -> None:
    assert server.post(b"{}", server.clerk.headers(b"[]")).status_code == 400


def test_body_that_says_it_is_too_large_is_413_before_it_is_sent(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connected:
        request = ("POST {} HTTP/1.1", "Host: localhost", "Content-Length: {}", "", "")
        connected.sendall("\r\n".join(request).format(PATH, 2**40).encode())
        assert connected.recv(100).startswith(b"HTTP/1.1 413 ")


def test_webhook_with_a_chunked_body_is_read(server: Server) -> None:
    body = json.dumps(server.clerk.event()).encode()
    # The signature is right, so that the whole body was read; the database is down.
    assert server.post(iter([body]), server.clerk.headers(body)).status_code == 503
