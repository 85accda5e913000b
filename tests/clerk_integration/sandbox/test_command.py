"""`manage.py clerk_sandbox`: its output, its environment file, its end."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command

from clerk_integration.sandbox.env_file import EnvFileError, read_keys, write_settings
from clerk_integration.sandbox.server import SandboxServer
from tests.sandbox import Json

DEADLINE = 30


@contextmanager
def _running(*options: str) -> Iterator[tuple[subprocess.Popen[str], Json]]:
    command = [sys.executable, str(django_settings.BASE_DIR / "manage.py"), "clerk_sandbox", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_command_describes_the_server_with_the_keys_of_its_env_file_and_sigterm_ends_it_with_zero(
    tmp_path: Path,
) -> None:
    file = tmp_path / "env"
    first = SandboxServer(rate_limit="live")
    write_settings(file, first.description, first.private_pem)
    first.stop()
    population = ("--organizations", "3", "--users", "2", "--memberships-per-organization", "2")
    limits = ("--slugs", "disabled", "--rate-limit", "live", "--latency-ms", "1")
    with (
        _running(*population, *limits, "--env-file", str(file)) as (process, described),
        httpx.Client(headers={"Authorization": f"Bearer {described['secretKey']}"}, verify=False) as http,
    ):
        memberships = http.get(f"{described['apiUrl']}/organization_memberships").json()
        settings = http.get(f"{described['apiUrl']}/instance/organization_settings").json()
        process.send_signal(signal.SIGTERM)

        assert process.wait(DEADLINE) == 0

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
    kept = ("secretKey", "jwtKey", "instanceId", "webhookSigningSecret")
    assert {name: described[name] for name in kept} == {name: first.description[name] for name in kept}
    assert f"CLERK_API_URL={described['apiUrl']}\n" in file.read_text()


def test_env_file_written_into_other_settings_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# mine\nLOG_LEVEL=DEBUG\nCLERK_API_URL=http://127.0.0.1:1/v1\n")
    server = SandboxServer()
    server.stop()

    write_settings(file, server.description, server.private_pem)

    lines = file.read_text().splitlines()
    assert lines[:2] == ["# mine", "LOG_LEVEL=DEBUG"]
    assert [line for line in lines if line.startswith("CLERK_API_URL")] == [f"CLERK_API_URL={server.url}/v1"]
    assert len(lines) == 2 + 7
    again = SandboxServer(keys=read_keys(file))
    again.stop()
    assert again.description["jwtKey"] == server.description["jwtKey"]


def test_env_file_that_is_new_is_private_and_turns_debug_on(tmp_path: Path) -> None:
    file = tmp_path / "env"
    assert read_keys(file) is None
    server = SandboxServer()
    server.stop()

    write_settings(file, server.description, server.private_pem)

    assert file.read_text().startswith("DEBUG=true\nCLERK_")
    assert file.stat().st_mode & 0o777 == 0o600


def test_env_file_read_by_a_shell_gives_the_same_keys(tmp_path: Path) -> None:
    file = tmp_path / "env"
    server = SandboxServer()
    server.stop()
    write_settings(file, server.description, server.private_pem)

    script = f'set -a; . {file}; printf "%s" "$CLERK_JWT_KEY"'
    shell = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)

    assert shell.stdout.replace("\\n", "\n") == server.description["jwtKey"]


@pytest.mark.parametrize(
    "content",
    ["CLERK_SECRET_KEY=sk_test_of_a_real_instance\n", "CLERK_SANDBOX_PRIVATE_KEY=x\nCLERK_SECRET_KEY=y\n"],
)
def test_env_file_with_other_keys_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    file = tmp_path / "env"
    file.write_text(content)

    with pytest.raises(EnvFileError, match="It was not changed"):
        read_keys(file)
    with pytest.raises(CommandError, match="It was not changed"):
        call_command("clerk_sandbox", "--env-file", str(file))

    assert file.read_text() == content


def test_command_with_a_port_in_use_names_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(CommandError, match=f"Port {port} cannot be used"):
            call_command("clerk_sandbox", "--port", str(port))


def test_command_whose_output_is_closed_stops_and_says_so() -> None:
    command = [sys.executable, str(django_settings.BASE_DIR / "manage.py"), "clerk_sandbox"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()

    assert "The address and the keys cannot be printed: Broken pipe. The local Clerk was stopped." in errors
    assert "Traceback" not in errors
    assert process.returncode


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--port", "70000"), "--port 70000 is not a port number"),
        (("--webhook-url", "example.com"), "--webhook-url: webhook_url must be an http or https URL"),
        (("--webhook-retry-scale", "-1"), "webhook_retry_scale must be 0 or more"),
        (("--organizations", "-1"), "--organizations: organizations must be 0 or more"),
        (("--memberships-per-organization", "2", "--users", "1"), "need as many users"),
        (("--env-file", "/proc/none/env"), "/proc/none/env cannot be written"),
    ],
)
def test_command_with_impossible_options_names_them(options: tuple[str, ...], reason: str) -> None:
    with pytest.raises(CommandError, match=reason) as caught:
        call_command("clerk_sandbox", *options)

    assert "\n" not in str(caught.value)
