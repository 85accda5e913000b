"""`manage.py clerk_sandbox` as a process: what it prints, how it ends."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from django.conf import settings as django_settings

from tests.commands import manage
from tests.sandbox import Json

DEADLINE = 30


def _command(*options: str) -> list[str]:
    return [sys.executable, str(django_settings.BASE_DIR / "manage.py"), "clerk_sandbox", *options]


@contextmanager
def _running(*options: str) -> Iterator[tuple[subprocess.Popen[str], Json]]:
    with subprocess.Popen(_command(*options), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_command_serves_what_its_first_line_describes() -> None:
    options = ("--organizations", "3", "--users", "2", "--memberships-per-organization", "2", "--slugs")
    with _running(*options, "disabled", "--rate-limit", "live", "--latency-ms", "1") as (_, described):
        headers = {"Authorization": f"Bearer {described['secretKey']}"}
        memberships = httpx.get(f"{described['apiUrl']}/organization_memberships", headers=headers).json()
        settings = httpx.get(f"{described['apiUrl']}/instance/organization_settings", headers=headers).json()

    assert list(described) == [
        "apiUrl",
        "secretKey",
        "jwtKey",
        "issuer",
        "instanceId",
        "webhookSigningSecret",
    ]
    assert memberships["total_count"] == 6
    assert settings["slug_disabled"] is True
    assert described["secretKey"].startswith("sk_live_")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_signalled_ends_with_exit_code_zero(number: signal.Signals) -> None:
    with _running() as (process, described), httpx.Client(verify=False) as open_connection:
        open_connection.get(f"{described['issuer']}/sandbox/requests")

        process.send_signal(number)

        assert process.wait(DEADLINE) == 0


def test_command_port_in_use_says_so_in_one_line_and_exits_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = manage("clerk_sandbox", "--port", str(port))

    assert (ended.code, ended.output) == (1, "")
    assert ended.errors.count("\n") == 1
    assert f"Port {port} cannot be used" in ended.errors


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--port", "70000"), "70000 is no port"),
        (("--webhook-url", "example.com"), "--webhook-url: webhook_url must be an http or https URL"),
        (("--webhook-retry-scale", "-1"), "webhook_retry_scale must be 0 or more"),
        (("--organizations", "-1"), "organizations must be 0 or more"),
        (("--memberships-per-organization", "2", "--users", "1"), "need as many users"),
    ],
)
def test_command_impossible_options_are_refused_in_one_line(options: tuple[str, ...], reason: str) -> None:
    ended = manage("clerk_sandbox", *options)

    assert (ended.code, ended.output) == (1, "")
    assert ended.errors.count("\n") == 1
    assert reason in ended.errors
