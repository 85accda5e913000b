"""Errors are reported to Sentry if it is configured, without secrets."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from tests.children import PROJECT

SECRET = "sk_test_0123456789abcdefghij"
FAIL = """
import logging
import django; django.setup()
from django.test import Client
import sentry_sdk
def fail(password):
    raise RuntimeError("refused: Bearer eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl")
try:
    fail("LOCAL-VARIABLE")
except RuntimeError:
    logging.getLogger("tenants").exception("Failed with %s", "sk_test_0123456789abcdefghij")
sentry_sdk.flush(10)
"""


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[Any]]]:
    """The DSN of a Sentry on this machine, and the events that it has received."""
    events: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            events.extend(json.loads(line) for line in body.splitlines() if line)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://public@127.0.0.1:{server.server_port}/1", events
        server.shutdown()
        thread.join()


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DEBUG": "true", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_error_is_reported_without_secrets_and_local_variables(sentry: tuple[str, list[Any]]) -> None:
    dsn, events = sentry

    done = run(FAIL, SENTRY_DSN=dsn, CLERK_SECRET_KEY=SECRET)

    assert done.returncode == 0, done.stderr
    [event] = [one for one in events if "exception" in one]
    assert event["exception"]["values"][0]["type"] == "RuntimeError"
    assert event["exception"]["values"][0]["value"] == "refused: Bearer [removed]"
    for secret in (SECRET, "c2lnbmF0dXJl", "LOCAL-VARIABLE"):
        assert secret not in json.dumps(events)


@pytest.mark.slow
def test_malformed_dsn_is_named_without_its_value() -> None:
    done = run("import django; django.setup()", SENTRY_DSN="https://SECRET-PART")

    assert done.stderr.strip().splitlines()[-1].endswith("SENTRY_DSN is not the DSN of a project in Sentry.")
    assert "SECRET-PART" not in done.stderr


def test_tracing_without_its_packages_is_named_by_a_check(settings: Settings) -> None:
    settings.OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:4318"

    assert "clerk.W007" in [message.id for message in run_checks()]


def test_sentry_with_its_package_is_no_finding(settings: Settings) -> None:
    settings.SENTRY_DSN = "http://public@127.0.0.1:9/1"

    assert "clerk.W006" not in [message.id for message in run_checks()]
