"""Log lines: one JSON object each, with what the code works on, without secrets, and not forged."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.test import Client
from pytest_django import Settings

from clerk_integration.log_context import add_to_log, added_to_log, begin_log_context
from config.logs import StructlogFormatter
from config.redaction import remove_secrets, without_secrets
from tenants.models import Tenant
from tenants.scoping import tenant_context
from tests.children import PROJECT, child_environment
from tests.sandbox import SandboxControl
from tests.tokens import session_token as unsigned_token
from tests.web_server import web_server
from tests.webhooks import PATH, WebhookSender
from tests.workers import DEADLINE, wait_until, workers_on

Json = dict[str, Any]

REQUEST_ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _new_context() -> Iterator[None]:
    begin_log_context()
    yield
    begin_log_context()


def line(message: str, *args: object, renderer: str = "json", **extra: object) -> str:
    made = logging.LogRecord("tenants", logging.INFO, __file__, 1, message, args, None)
    made.__dict__.update(extra)
    return StructlogFormatter(renderer).format(made)


def test_line_names_what_the_code_works_on() -> None:
    begin_log_context(request_id=REQUEST_ID)
    add_to_log(organization="org_1", tenant=None)
    with added_to_log(svix_id="msg_1"):
        logged = json.loads(line("Done", jobs=[3]))
    after = json.loads(line("Done"))

    assert logged.pop("timestamp")
    assert logged == {
        "event": "Done",
        "level": "info",
        "logger": "tenants",
        "request_id": REQUEST_ID,
        "organization": "org_1",
        "svix_id": "msg_1",
        "jobs": [3],
    }
    assert "svix_id" not in after


def test_line_names_the_current_tenant() -> None:
    with tenant_context(Tenant(pk=12, clerk_org_id="org_12", name="Acme")):
        logged = json.loads(line("Done"))

    assert (logged["tenant"], logged["organization"]) == (12, "org_12")


@pytest.mark.parametrize("renderer", ["json", "console"])
def test_values_from_outside_form_no_line_and_control_no_terminal(renderer: str) -> None:
    hostile = 'Acme\n{"event": "forged"}\r\x1b[2J\x9b1m\u2028\x00'

    written = line("Tenant %s", hostile, renderer=renderer, name_of_tenant=hostile)

    assert len(written.splitlines()) == 1
    assert not set(written) & set("\n\r\x9b\u2028\x00")
    assert "\x1b[2J" not in written


def test_secrets_are_removed_whatever_quotes_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CLERK_SECRET_KEY = "no-known-shape-of-a-key"
    settings.METRICS_TOKEN = 'with "quotes" inside'
    settings.SYNC_ALERT_WEBHOOK_URL = "https://hooks.example.com/services/T1/B2/secret"
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "of-the-database")
    token = unsigned_token()
    quoted = (
        f"{settings.CLERK_SECRET_KEY} Bearer {token} sk_live_0123456789 whsec_QUJDREVGR0g="
        f" {settings.METRICS_TOKEN} /services/T1/B2/secret"
        " postgres://me:another@host/db password=of-the-database ak_0123456789"
    )

    written = line("Failed: %s", quoted)

    for secret in ("no-known", token, "0123456789", "QUJD", "inside", "T1/B2", "another", "of-the"):
        assert secret not in written
    assert json.loads(written)["event"].startswith("Failed: [removed] Bearer [removed] ")
    assert without_secrets({"a": [token, 1, {"b": (token,)}]}) == {
        "a": ["[removed]", 1, {"b": ["[removed]"]}]
    }
    assert remove_secrets("Tenant 12 was synced.") == "Tenant 12 was synced."


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        (REQUEST_ID, True),
        ("a.b-c_D1", True),
        ("x" * 65, False),
        ("a b", False),
        ("a\nb", False),
        ("é", False),
    ],
)
def test_request_id_is_kept_if_well_formed_and_answered(client: Client, sent: str, is_kept: bool) -> None:
    answered = client.get("/healthz", headers={"x-request-id": sent}).headers["X-Request-Id"]

    assert (answered == sent) == is_kept
    assert is_kept or re.fullmatch("[0-9a-f]{32}", answered)


def test_request_ids_differ_from_request_to_request(client: Client) -> None:
    assert client.get("/healthz").headers["X-Request-Id"] != client.get("/healthz").headers["X-Request-Id"]


METADATA = "PRIVATE-METADATA-9f8e"
METRICS = "METRICS-TOKEN-7c6b"
ALERTS = "http://127.0.0.1:9/services/ALERT-SECRET-5a4d"


class FullRun:
    """A web server and a worker beside the local Clerk, and what they and the commands print."""

    def __init__(self, sandbox: SandboxControl, port: int, environment: dict[str, str]) -> None:
        self.sandbox = sandbox
        self.url = f"http://127.0.0.1:{port}"
        self.environment = environment
        self.tokens: list[str] = []
        self.printed = ""

    def call(self, method: str, path: str, token: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        return requests.request(method, f"{self.url}{path}", headers=headers, timeout=DEADLINE, **options)

    def token(self, user: str, **variant: Any) -> str:
        self.tokens.append(self.sandbox.token(user, **variant))
        return self.tokens[-1]

    def manage(self, *arguments: str) -> None:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True, check=False
        )
        self.printed += done.stdout + done.stderr


def exercise(run: FullRun) -> None:
    """Use every part, in success and failure, with secrets wherever a caller or Clerk can put them."""
    sandbox, user = run.sandbox, run.sandbox.user()["id"]
    organization = sandbox.organization("Acme", user, private_metadata={"secret": METADATA})
    sender = WebhookSender(
        secret=sandbox.description["webhookSigningSecret"], instance_id=sandbox.description["instanceId"]
    )
    good = run.token(user, organization_id=organization["id"])
    listed = run.call("GET", "/api/v1/tenants/me/get-tenants", good, headers={"X-Request-Id": REQUEST_ID})
    assert listed.headers["X-Request-Id"] == REQUEST_ID
    run.call("GET", f"/api/v1/tenants/{listed.json()[0]['id']}", good)
    run.call("GET", "/api/v1/tenants/organization/org_unknown", good)
    run.call("GET", f"/api/v1/tenants?search={METADATA}%0aforged", good)
    for variant in ({"signature": "forged"}, {"expiresIn": -99}):
        run.call("GET", "/api/v1/tenants", run.token(user, **variant))
    for fault in ({"status": 401}, {"status": 503}, {"reset": True}, {"body": METADATA}):
        sandbox.fault("POST /v1/organizations", **fault)
        run.call("POST", "/api/v1/tenants/create", good, json={"name": "Fails"})
    for data in (organization, {"id": "none", "private_metadata": {"secret": METADATA}}):
        body = json.dumps(sender.event(data={**data, "private_metadata": {"secret": METADATA}})).encode()
        headers = sender.headers(body)
        for signature in (headers["svix-signature"], f"v1,{METADATA}"):
            sent = {**headers, "svix-signature": signature, "Content-Type": "application/json"}
            requests.post(f"{run.url}{PATH}", data=body, headers=sent, timeout=DEADLINE)
    run.call("GET", "/metrics", METRICS)
    run.call("GET", "/metrics", f"{METRICS}-wrong")
    for command in (
        "check",
        "check_clerk",
        "sync_from_clerk --dry-run",
        "sync_from_clerk",
        "send_alerts --test",
    ):
        run.manage(*command.split())
    sandbox.fault("GET /v1/*", status=401, times=20)
    run.manage("sync_from_clerk", "--json")


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_full_run_logs_json_lines_without_a_secret(
    sandbox: SandboxControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Private metadata, tokens, keys and the secrets of the settings, at DEBUG."""
    settings = {
        **child_environment(sandbox.description),
        "CLERK_WEBHOOK_SIGNING_SECRET": sandbox.description["webhookSigningSecret"],
        "CLERK_JWT_KEY": sandbox.description["jwtKey"],
        "DEBUG": "true",
        "SECRET_KEY": "DJANGO-SECRET-3b2c",
        "ALLOWED_HOSTS": "127.0.0.1",
        "METRICS_TOKEN": METRICS,
        "SYNC_ALERT_WEBHOOK_URL": ALERTS,
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
    }
    for name, text in settings.items():
        monkeypatch.setenv(name, text)
    web_log = tmp_path / "web.log"
    options = ("--workers", "1", "--access-logfile", "-")
    with web_log.open("w") as output, workers_on(tmp_path, "config.settings") as workers:
        worker = workers.start()
        with web_server(*options, output=output.fileno(), **settings) as port:
            run = FullRun(sandbox, port, settings)
            exercise(run)
            wait_until(lambda: "Webhook delivery" in worker.log)

    secrets = [METADATA, METRICS, "ALERT-SECRET", "DJANGO-SECRET", *run.tokens]
    secrets += [sandbox.description[name] for name in ("secretKey", "webhookSigningSecret")]
    for printed in (run.printed, web_log.read_text(), worker.log):
        assert printed
        assert [secret for secret in secrets if secret in printed] == []
    web, work = (json_lines(text) for text in (web_log.read_text(), worker.log))
    accessed = [one for one in web if one["logger"] == "gunicorn.access"]
    assert {"GET /api/v1/tenants", f"POST {PATH}"} <= {one["event"] for one in accessed}
    assert [one["status"] for one in accessed if one["request_id"] == REQUEST_ID] == [200]
    assert all(
        "request_id" in one for one in web if one["logger"].startswith(("django.request", "clerk", "tenants"))
    )
    failures = [one for one in work if one["event"].startswith("Webhook delivery")]
    assert failures
    assert all(one["svix_id"].startswith("msg_") and one["job"] for one in failures)


def json_lines(text: str) -> list[Json]:
    # Procrastinate's command prints one line to stdout.
    found = [json.loads(one) for one in text.splitlines() if one != "Launching a worker on all queues"]
    assert all(isinstance(one, dict) for one in found)
    return found
