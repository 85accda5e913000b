"""The settings module in odd environments: its import works, or ends in one line that says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.env_file import read_env_file
from tests.config.processes import ROOT

DUMP = """
import json, sys
from config import settings
print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}))
"""


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python with nothing of Clerk's or the tests' in the environment but `env`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLERK_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=inherited | {"LOG_FORMAT": "json", "CACHE_URL": "", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def imported(*names: str, **env: str) -> dict[str, Any]:
    """The settings of these names, as the module reads them from `env`."""
    done = run("-c", DUMP, *names, **env)
    assert done.returncode == 0, done.stderr
    settings: dict[str, Any] = json.loads(done.stdout)
    return settings


def test_settings_empty_count_as_unset() -> None:
    defaults: dict[str, Any] = {
        "SECRET_KEY": "insecure-development-only",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "console",
        "CLERK_API_URL": "https://api.clerk.com/v1",
        "CLERK_TIMEOUT_SECONDS": "5",
        "CLERK_RATE_LIMIT": "",
        "CLERK_PENDING_SESSIONS": "refuse",
        "CLERK_SYNC_MAX_AGE_SECONDS": "60",
        "SECRET_KEY_FALLBACKS": [],
        "SECURE_HSTS_SECONDS": 0,
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": False,
        "SECURE_HSTS_PRELOAD": False,
        "SECURE_SSL_REDIRECT": False,
    }

    assert imported(*defaults, DEBUG="true", **dict.fromkeys(defaults, "")) == defaults


def test_settings_lists_forgive_spaces_between_their_values() -> None:
    assert imported("ALLOWED_HOSTS", ALLOWED_HOSTS=" a.example, b.example,") == {
        "ALLOWED_HOSTS": ["a.example", "b.example"]
    }


@pytest.mark.slow
def test_check_command_malformed_rate_limit_is_named() -> None:
    done = run("manage.py", "check", CLERK_RATE_LIMIT="abc", DEBUG="true")

    assert done.returncode == 1
    assert "clerk.E013" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("check", "CACHE_URL", "nothing://cache.example"),
        ("sync_from_clerk", "DATABASE_URL", "mysql://db.example/shop"),
    ],
)
def test_command_with_an_unreadable_url_ends_in_one_line_that_names_it(
    command: str, name: str, value: str
) -> None:
    done = run("manage.py", command, **{name: value})

    assert done.returncode == 1
    assert done.stderr.startswith(name)
    assert done.stderr.count("\n") == 1


def test_command_with_an_unreadable_url_shows_the_traceback_when_asked() -> None:
    done = run("manage.py", "check", "--traceback", CACHE_URL="nothing://cache.example")

    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_settings_of_https_and_key_rotation_come_from_the_environment() -> None:
    given = {
        "SECRET_KEY_FALLBACKS": "older, oldest",
        "SECURE_HSTS_SECONDS": "31536000",
        "SECURE_SSL_REDIRECT": "true",
    }

    assert imported(*given, **given) == {
        "SECRET_KEY_FALLBACKS": ["older", "oldest"],
        "SECURE_HSTS_SECONDS": 31536000,
        "SECURE_SSL_REDIRECT": True,
    }


@pytest.mark.parametrize("value", ["a year", "9" * 10, "9" * 5000], ids=["text", "10 digits", "5000 digits"])
def test_settings_malformed_hsts_seconds_are_named(value: str) -> None:
    done = run("manage.py", "check", SECURE_HSTS_SECONDS=value)

    assert (done.returncode, done.stderr) == (1, "SECURE_HSTS_SECONDS is not a number of seconds.\n")


@pytest.mark.parametrize(
    "name",
    [
        *("DEBUG", "DATABASE_POOL", "SECURE_SSL_REDIRECT", "SECURE_HSTS_INCLUDE_SUBDOMAINS"),
        "SECURE_HSTS_PRELOAD",
    ],
)
def test_settings_flag_that_is_neither_true_nor_false_is_named(name: str) -> None:
    done = run("manage.py", "check", **{"DATABASE_URL": "postgres://db.example/shop", name: "ture"})

    assert (done.returncode, done.stderr) == (1, f"{name} is neither true nor false.\n")


@pytest.mark.parametrize(("text", "value"), [("true", True), (" ON ", True), ("0", False), ("no", False)])
def test_settings_flag_may_be_written_in_several_ways(text: str, value: bool) -> None:
    assert imported("SECURE_SSL_REDIRECT", SECURE_SSL_REDIRECT=text) == {"SECURE_SSL_REDIRECT": value}


def test_env_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "windows.env"
    file.write_bytes(
        b"\xef\xbb\xbfCLERK_ISSUER=https://a.example\r\n # comment\r\n\r\n  export CLERK_INSTANCE_ID=b\r\n"
    )

    settings = imported("CLERK_ISSUER", "CLERK_INSTANCE_ID", ENV_FILE=str(file))

    assert settings == {"CLERK_ISSUER": "https://a.example", "CLERK_INSTANCE_ID": "b"}


@pytest.mark.parametrize(
    ("line", "content"),
    [
        (1, "sk_live_secret\nDEBUG=true\n"),
        (3, "DEBUG=true\n\nCLERK_SECRET_KEY sk_live_secret\n"),
        (2, "CLERK_JWT_KEY=-----BEGIN PUBLIC KEY-----\nsk_live_secret\n-----END PUBLIC KEY-----\n"),
        (9, "# comment\n" * 8 + "CLERK-SECRET-KEY=sk_live_secret\n"),
    ],
)
def test_env_file_malformed_line_is_named_by_its_number_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: int, content: str
) -> None:
    file = tmp_path / "odd.env"
    file.write_text(content)
    monkeypatch.setattr(os, "environ", {"ENV_FILE": str(file)})

    with pytest.raises(ImproperlyConfigured) as refusal:
        read_env_file(tmp_path)

    assert str(refusal.value).startswith(f"{file}, line {line}: not of the form NAME=VALUE.")
    assert "sk_live_secret" not in str(refusal.value)


def test_command_with_a_malformed_env_file_ends_in_one_line_without_its_content(tmp_path: Path) -> None:
    file = tmp_path / "odd.env"
    file.write_text("CLERK_SECRET_KEY=x\nsk_live_secret\n")

    done = run("manage.py", "check", ENV_FILE=str(file))

    assert done.returncode == 1
    assert done.stderr.startswith(f"{file}, line 2: not of the form NAME=VALUE.")
    assert done.stderr.count("\n") == 1
    assert "sk_live_secret" not in done.stderr + done.stdout


def test_env_file_that_is_missing_is_refused_only_if_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {})
    read_env_file(tmp_path / ".env")
    monkeypatch.setattr(os, "environ", {"ENV_FILE": str(tmp_path / "typo.env")})

    with pytest.raises(ImproperlyConfigured) as refusal:
        read_env_file(tmp_path / ".env")

    assert str(refusal.value) == (
        f"{tmp_path}/typo.env cannot be read: No such file or directory."
        " Correct ENV_FILE, or unset it to use .env."
    )


def test_env_file_in_another_encoding_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "latin.env"
    file.write_bytes("CLERK_ISSUER=sch\xf6n".encode("latin-1"))
    monkeypatch.setattr(os, "environ", {"ENV_FILE": str(file)})

    with pytest.raises(ImproperlyConfigured) as refusal:
        read_env_file(tmp_path)

    assert str(refusal.value) == f"{file} is not a UTF-8 text. Save it as UTF-8."


def test_env_file_in_locale_c_is_read_as_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "utf8.env"
    file.write_text("CLERK_ISSUER=schön\n", encoding="utf-8")

    assert imported("CLERK_ISSUER", ENV_FILE=str(file), LC_ALL="C") == {"CLERK_ISSUER": "schön"}


@pytest.mark.slow
def test_check_command_in_locale_c_passes() -> None:
    done = run("manage.py", "check", DEBUG="true", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")

    assert done.returncode == 0, done.stderr
