"""`check_clerk` against a local Clerk, and against servers that answer otherwise."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import StringIO

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.management import CommandError, call_command
from pytest_django import Settings

from clerk_integration.models import WebhookRefusal
from tests import hostile_server
from tests.children import PROJECT, child_environment
from tests.hostile_server import Behaviour, HostileServer, clerk_error, respond
from tests.sandbox import SandboxControl

SUBJECTS = [
    "key",
    "instance",
    "clock",
    "organizations",
    "slugs",
    "signing keys",
    "issuer",
    "webhook secret",
    "webhooks",
]
SIGNING_SECRET = f"whsec_{base64.b64encode(b'of a test, 24 bytes long').decode()}"

pytestmark = pytest.mark.django_db

Findings = dict[str, dict[str, str]]


def run() -> tuple[Findings, bool]:
    """Run the command; return its findings by subject, and whether it succeeded."""
    output = StringIO()
    try:
        call_command("check_clerk", "--json", stdout=output)
    except CommandError:
        succeeded = False
    else:
        succeeded = True
    summary = json.loads(output.getvalue().splitlines()[-1])
    assert summary["ok"] is succeeded
    return {finding["subject"]: finding for finding in summary["findings"]}, succeeded


def test_check_clerk_with_everything_right_is_all_ok(sandbox: SandboxControl, settings: Settings) -> None:
    settings.CLERK_WEBHOOK_SIGNING_SECRET = [SIGNING_SECRET]
    findings, succeeded = run()
    assert succeeded
    assert list(findings) == SUBJECTS
    # A local Clerk has our own clock; that one is compared with scripted answers below.
    assert {findings[subject]["status"] for subject in SUBJECTS if subject != "clock"} == {"ok"}


def test_check_clerk_prints_a_line_for_each_finding_and_no_secret(
    sandbox: SandboxControl, settings: Settings
) -> None:
    settings.CLERK_WEBHOOK_SIGNING_SECRET = [SIGNING_SECRET]
    settings.CLERK_INSTANCE_ID = ""
    output = StringIO()
    call_command("check_clerk", stdout=output, no_color=True)
    lines = output.getvalue().splitlines()
    assert lines[0] == "ok   key: Clerk accepts CLERK_SECRET_KEY."
    assert lines[1].startswith("warn instance: ")
    assert f"CLERK_INSTANCE_ID={sandbox.description['instanceId']}" in lines[2]
    for secret in (SIGNING_SECRET, settings.CLERK_SECRET_KEY, settings.CLERK_JWT_KEY.splitlines()[1]):
        assert secret not in output.getvalue()


def other_public_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CLERK_INSTANCE_ID", "", ("instance", "warn")),
        ("CLERK_INSTANCE_ID", "ins_other", ("instance", "FAIL")),
        ("CLERK_JWT_KEY", "", ("signing keys", "ok")),
        ("CLERK_JWT_KEY", "no PEM", ("signing keys", "FAIL")),
        ("CLERK_JWT_KEY", other_public_key(), ("signing keys", "FAIL")),
        ("CLERK_ISSUER", "", ("issuer", "warn")),
        ("CLERK_ISSUER", "clerk.example.com", ("issuer", "FAIL")),
        ("CLERK_ISSUER", "https://[clerk", ("issuer", "FAIL")),
        ("CLERK_ISSUER", "https://<your Frontend API>", ("issuer", "FAIL")),
        ("CLERK_WEBHOOK_SIGNING_SECRET", [], ("webhook secret", "warn")),
        ("CLERK_WEBHOOK_SIGNING_SECRET", [SIGNING_SECRET, "whsec_no"], ("webhook secret", "FAIL")),
    ],
)
def test_check_clerk_with_a_setting_that_does_not_fit_reports_it_and_all_else(
    sandbox: SandboxControl, settings: Settings, name: str, value: object, expected: tuple[str, str]
) -> None:
    subject, status = expected
    setattr(settings, name, value)
    findings, succeeded = run()
    assert list(findings) == SUBJECTS
    assert findings[subject]["status"] == status
    assert bool(findings[subject]["advice"]) is (status != "ok")
    assert succeeded is (status != "FAIL")


@pytest.mark.parametrize(
    ("change", "subject", "status"),
    [
        (lambda sandbox: sandbox.organization_settings(enabled=False), "organizations", "FAIL"),
        (lambda sandbox: sandbox.organization_settings(slug_disabled=True), "slugs", "warn"),
        (lambda sandbox: sandbox.fault("GET /v1/jwks", body="{}"), "signing keys", "FAIL"),
        (lambda sandbox: sandbox.fault("GET /v1/jwks", body='{"keys": []}'), "signing keys", "FAIL"),
        (
            lambda sandbox: sandbox.fault("GET /v1/instance/organization_settings", body="{}"),
            "organizations",
            "warn",
        ),
        (
            lambda sandbox: sandbox.fault("GET /v1/instance/organization_settings", body="[]"),
            "organizations",
            "FAIL",
        ),
    ],
)
def test_check_clerk_of_an_instance_that_does_not_fit_says_so(
    sandbox: SandboxControl, change: Callable[[SandboxControl], object], subject: str, status: str
) -> None:
    change(sandbox)
    findings, succeeded = run()
    assert findings[subject]["status"] == status
    assert succeeded is (status != "FAIL")


@pytest.mark.parametrize(
    "answer",
    [
        clerk_error(401, "clerk_key_invalid"),
        clerk_error(500, "internal_clerk_error"),
        hostile_server.reset,
        respond(200, b"<html>", content_type="text/html"),
        respond(200, []),
        respond(302, headers={"Location": "https://example.com"}),
    ],
)
def test_check_clerk_without_an_accepted_key_fails_and_asks_nothing_more(
    settings: Settings, answer: Behaviour
) -> None:
    with HostileServer(answer) as server:
        settings.CLERK_API_URL = server.api_url
        settings.CLERK_SECRET_KEY = "sk_test_of_a_scripted_server"
        findings, succeeded = run()
    assert not succeeded
    assert findings["key"]["status"] == "FAIL"
    assert list(findings) == ["key", "issuer", "webhook secret", "webhooks"]
    assert set(server.requests) == {"GET /v1/instance"}


@pytest.mark.parametrize(
    ("minutes", "words", "status"),
    [(-3, "ahead of", "FAIL"), (0, "one second at most", "ok"), (3, "behind", "FAIL")],
)
def test_check_clerk_compares_the_clocks(settings: Settings, minutes: int, words: str, status: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    answer = respond(200, {"id": "ins_1", "environment_type": "development"}, headers={"Date": date})
    with HostileServer(answer) as server:
        settings.CLERK_API_URL = server.api_url
        settings.CLERK_SECRET_KEY = "sk_test_of_a_scripted_server"
        findings, _ = run()
    assert findings["clock"]["status"] == status
    assert words in findings["clock"]["message"]


@pytest.mark.parametrize(
    "code", ["invalid_signature", "foreign_instance", "webhooks_not_configured", "invalid_event"]
)
def test_check_clerk_says_that_webhooks_are_refused_and_why(sandbox: SandboxControl, code: str) -> None:
    WebhookRefusal.objects.create(code=code, count=3, reason="of this reason")
    old = WebhookRefusal.objects.create(code="body_too_large", count=1)
    WebhookRefusal.objects.filter(pk=old.pk).update(last_at=datetime.now(UTC) - timedelta(hours=25))

    findings, succeeded = run()

    assert succeeded
    finding = findings["webhooks"]
    assert finding["status"] == "warn"
    assert f"{code}, 3 in all" in finding["message"]
    assert "because of this reason." in finding["message"]
    assert finding["advice"]


@pytest.mark.usefixtures("new_york_without_use_tz")
def test_check_clerk_without_use_tz_says_in_utc_when_a_webhook_was_refused(sandbox: SandboxControl) -> None:
    refusal = WebhookRefusal.objects.create(code="invalid_signature", count=3)
    last_at = datetime.now(UTC) - timedelta(hours=1)
    WebhookRefusal.objects.filter(pk=refusal.pk).update(last_at=last_at)

    assert f"last at {last_at:%Y-%m-%d %H:%M:%S} UTC" in run()[0]["webhooks"]["message"]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_check_clerk_without_a_database_reports_everything_else(sandbox: SandboxControl) -> None:
    environment = {**child_environment(sandbox.description), "DATABASE_URL": "postgres://me@127.0.0.1:9/none"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check_clerk", "--json"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert list(findings) == SUBJECTS
    assert findings["webhooks"]["status"] == "warn"
    assert "database" in findings["webhooks"]["message"]


def test_check_clerk_adopt_instance_without_clerk_ends_with_a_json_object(settings: Settings) -> None:
    settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
    output = StringIO()

    with pytest.raises(CommandError) as failure:
        call_command("check_clerk", "--adopt-instance", "--json", stdout=output)

    assert json.loads(output.getvalue().splitlines()[-1]) == {"error": str(failure.value)}
    assert str(failure.value).startswith("No instance was adopted: ")
