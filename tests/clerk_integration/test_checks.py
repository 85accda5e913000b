"""System checks of the settings: each wrong value is named by id, and no value is shown."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.core.checks import run_checks
from pytest_django import Settings

PROJECT = Path(__file__).parents[2]
KEY_BODY = "0123456789abcdef" * 3
TEST_KEY = f"sk_test_{KEY_BODY}"
SIGNING_SECRET = f"whsec_{base64.b64encode(b'of a test, 24 bytes long').decode()}"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE_PEM = RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
EC_PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings of a production that nothing is wrong with."""
    settings.DEBUG = False
    settings.SECRET_KEY = "of a production that is none"
    settings.ALLOWED_HOSTS = ["app.example.com"]
    settings.CLERK_SECRET_KEY = f"sk_live_{KEY_BODY}"
    settings.CLERK_API_URL = "https://api.clerk.com/v1"
    settings.CLERK_JWT_KEY = PUBLIC_PEM
    settings.CLERK_ISSUER = "https://clerk.example.com"
    settings.CLERK_AUTHORIZED_PARTIES = ["https://app.example.com", "http://localhost:3000"]
    settings.CLERK_PENDING_SESSIONS = "refuse"
    settings.CLERK_WEBHOOK_SIGNING_SECRET = [SIGNING_SECRET]
    settings.METRICS_TOKEN = "of a production that is none"
    return settings


def found(*, deploy: bool = False) -> dict[str | None, str]:
    """Run our checks, and return the messages by id."""
    all_messages = run_checks(include_deployment_checks=deploy)
    messages = [message for message in all_messages if str(message.id).startswith("clerk.")]
    assert all(message.hint for message in messages)
    return {message.id: message.msg for message in messages}


def test_checks_of_good_settings_find_nothing(settings: Settings) -> None:
    assert found() == {}


@pytest.mark.parametrize(
    ("name", "value", "check_id"),
    [
        ("CLERK_SECRET_KEY", "", "clerk.E001"),
        ("CLERK_SECRET_KEY", "sk_test_xxx", "clerk.E001"),
        ("CLERK_SECRET_KEY", "sk_test_...", "clerk.E001"),
        ("CLERK_SECRET_KEY", "sk_live_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "clerk.E001"),
        ("CLERK_SECRET_KEY", "changeme", "clerk.E001"),
        ("CLERK_SECRET_KEY", "your-key-here", "clerk.E001"),
        ("CLERK_SECRET_KEY", "sk_test_your_clerk_secret_key_here", "clerk.E001"),
        ("CLERK_SECRET_KEY", f"pk_test_{KEY_BODY}", "clerk.E002"),
        ("CLERK_SECRET_KEY", KEY_BODY, "clerk.E002"),
        ("CLERK_JWT_KEY", "no PEM", "clerk.E003"),
        ("CLERK_JWT_KEY", PUBLIC_PEM[:200], "clerk.E003"),
        ("CLERK_JWT_KEY", PRIVATE_PEM, "clerk.E003"),
        ("CLERK_JWT_KEY", EC_PEM, "clerk.E003"),
        ("CLERK_API_URL", "", "clerk.E004"),
        ("CLERK_API_URL", "api.clerk.com/v1", "clerk.E004"),
        ("CLERK_API_URL", "https://api.clerk.com", "clerk.E004"),
        ("CLERK_API_URL", "http://api.clerk.com/v1", "clerk.E004"),
        ("CLERK_API_URL", "ftp://api.clerk.com/v1", "clerk.E004"),
        ("CLERK_API_URL", "https://api.clerk.com:port/v1", "clerk.E004"),
        ("CLERK_API_URL", "https://user@api.clerk.com/v1", "clerk.E004"),
        ("CLERK_API_URL", "https://api.clerk.com/v1?a=b", "clerk.E004"),
        ("CLERK_API_URL", "https://[api/v1", "clerk.E004"),
        ("CLERK_API_URL", "http://127.0.0.1:8001/v1", "clerk.E005"),
        ("CLERK_API_URL", "http://localhost:8001/v1", "clerk.E005"),
        ("CLERK_API_URL", "http://[::1]:8001/v1", "clerk.E005"),
        ("CLERK_PENDING_SESSIONS", "admit", "clerk.E006"),
        ("CLERK_AUTHORIZED_PARTIES", ["https://app.example.com/"], "clerk.E007"),
        ("CLERK_AUTHORIZED_PARTIES", ["app.example.com"], "clerk.E007"),
        ("CLERK_AUTHORIZED_PARTIES", ["https://app.example.com", "https://[app"], "clerk.E007"),
        ("CLERK_TIMEOUT_SECONDS", 0.0, "clerk.E008"),
        ("CLERK_TIMEOUT_SECONDS", -1.0, "clerk.E008"),
        ("CLERK_TIMEOUT_SECONDS", 61.0, "clerk.E008"),
        ("CLERK_TIMEOUT_SECONDS", float("nan"), "clerk.E008"),
        ("CLERK_RATE_LIMIT", "abc", "clerk.E013"),
        ("CLERK_RATE_LIMIT", "-100", "clerk.E013"),
        ("CLERK_RATE_LIMIT", "0", "clerk.E013"),
        ("CLERK_RATE_LIMIT", "nan", "clerk.E013"),
        ("CLERK_RATE_LIMIT", "inf", "clerk.E013"),
        ("CLERK_SYNC_MAX_AGE_SECONDS", "soon", "clerk.E012"),
        ("CLERK_SYNC_MAX_AGE_SECONDS", "1e15", "clerk.E012"),
        ("CLERK_SYNC_MAX_AGE_SECONDS", "9" * 5000, "clerk.E012"),
        ("CLERK_MAX_WAITING", "9" * 5000, "clerk.E018"),
        ("CLERK_MAX_WAITING", "half", "clerk.E018"),
        ("CLERK_MAX_WAITING", "0", "clerk.E018"),
        ("CLERK_MAX_WAITING", "1.5", "clerk.E018"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", ["whsec_c2hvcnQ="], "clerk.E009"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", ["whsec_not base64 at all, not base64"], "clerk.E009"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", [SIGNING_SECRET, SIGNING_SECRET[6:]], "clerk.E009"),
        ("CLERK_CLOCK_SKEW_SECONDS", "61", "clerk.E014"),
        ("CLERK_CLOCK_SKEW_SECONDS", "-1", "clerk.E014"),
        ("CLERK_CLOCK_SKEW_SECONDS", "five", "clerk.E014"),
        ("SYNC_ALERT_WEBHOOK_URL", "hooks.example.com/T0/B0", "clerk.E020"),
        ("SYNC_ALERT_WEBHOOK_URL", "file:///etc/passwd", "clerk.E020"),
        ("SYNC_ALERT_AGE_HOURS", "a day", "clerk.E021"),
        ("SYNC_ALERT_AGE_HOURS", "0", "clerk.E021"),
        ("CLERK_ACCEPT_API_KEYS", "ture", "clerk.E022"),
        ("CLERK_ACCEPT_API_KEYS", 7, "clerk.E022"),
        ("TENANT_HISTORY_DAYS", -2, "clerk.E023"),
        ("TENANT_HISTORY_DAYS", "abc", "clerk.E023"),
        ("TENANT_HISTORY_DAYS", 1.5, "clerk.E023"),
        ("TENANT_HISTORY_DAYS", 999_999, "clerk.E023"),
        ("CLERK_AUDIENCE", 7, "clerk.E024"),
        ("CLERK_AUDIENCE", [7], "clerk.E024"),
        ("TENANT_LIST_LIMIT", "many", "clerk.E019"),
        ("CLERK_ISSUER", "", "clerk.W002"),
        ("SECRET_KEY", "insecure-development-only", "clerk.E010"),
        ("SECRET_KEY", "", "clerk.E010"),
        ("LOG_LEVEL", "LOUD", "clerk.W004"),
        ("LOG_LEVEL", 20, "clerk.W004"),
        ("LOG_FORMAT", "xml", "clerk.W004"),
    ],
)
def test_checks_of_a_wrong_value_name_the_setting_by_id(
    settings: Settings, name: str, value: Any, check_id: str
) -> None:
    setattr(settings, name, value)
    messages = found()
    assert list(messages) == [check_id]
    for secret in value if isinstance(value, list) else [value]:
        assert not secret or str(secret) not in messages[check_id]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLERK_SECRET_KEY", f"sk_test_{KEY_BODY}"),
        ("CLERK_JWT_KEY", ""),
        ("CLERK_JWT_KEY", PUBLIC_PEM.replace("\n", "\\n")),
        ("CLERK_API_URL", "https://api.clerk.com/v1/"),
        ("CLERK_AUTHORIZED_PARTIES", []),
        ("CLERK_PENDING_SESSIONS", "create"),
        ("CLERK_TIMEOUT_SECONDS", 0.5),
        ("CLERK_RATE_LIMIT", ""),
        ("CLERK_MAX_WAITING", ""),
        ("CLERK_MAX_WAITING", "1"),
        ("CLERK_RATE_LIMIT", "250"),
        ("LOG_LEVEL", "debug"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", []),
        ("CLERK_WEBHOOK_SIGNING_SECRET", f"{SIGNING_SECRET}, {SIGNING_SECRET}"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com,http://localhost:3000"),
        ("CLERK_AUDIENCE", "shop"),
        ("CLERK_ACCEPT_API_KEYS", "false"),
        ("CLERK_ACCEPT_API_KEYS", True),
        ("TENANT_HISTORY_DAYS", 0),
        ("TENANT_HISTORY_DAYS", "30"),
        # What os.environ.get returns for a variable that is not set.
        *(
            (name, None)
            for name in (
                *("CLERK_JWT_KEY", "CLERK_API_URL", "CLERK_AUTHORIZED_PARTIES", "CLERK_AUDIENCE"),
                *("CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_TIMEOUT_SECONDS", "CLERK_ACCEPT_API_KEYS"),
                *("CLERK_PENDING_SESSIONS", "TENANT_HISTORY_DAYS", "TENANT_LIST_LIMIT"),
            )
        ),
    ],
)
def test_checks_of_another_good_value_find_nothing(settings: Settings, name: str, value: Any) -> None:
    setattr(settings, name, value)
    assert found() == {}


@pytest.mark.parametrize(
    ("changes", "check_id"),
    [
        ({}, None),
        ({"SECRET_KEY": "insecure-development-only"}, "clerk.E010"),
        (
            {"SECRET_KEY": "insecure-development-only", "DEBUG": True, "CLERK_SECRET_KEY": TEST_KEY},
            "clerk.E010",
        ),
        ({"ALLOWED_HOSTS": ["app.example.com", "*"]}, "clerk.E015"),
        ({"CLERK_SECRET_KEY": TEST_KEY}, "clerk.E016"),
        ({"DEBUG": True}, "clerk.E017"),
    ],
)
def test_deployment_checks_of_settings_that_are_for_development_are_errors(
    settings: Settings, changes: dict[str, Any], check_id: str | None
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert list(found(deploy=True)) == ([] if check_id is None else [check_id])


def test_checks_in_development_without_a_key_only_warn(settings: Settings) -> None:
    settings.DEBUG = True
    settings.SECRET_KEY = "insecure-development-only"
    settings.CLERK_SECRET_KEY = ""
    settings.CLERK_ISSUER = ""
    settings.CLERK_API_URL = "http://127.0.0.1:8001/v1"
    assert list(found()) == ["clerk.W001"]


def test_check_command_in_a_production_with_nothing_set_names_all_that_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLERK_")}
    # Empty rather than unset, so that a developer's .env does not fill them in.
    environment |= {"DEBUG": "false", "SECRET_KEY": "", "DATABASE_URL": "", "CLERK_SECRET_KEY": ""}
    environment |= {"CLERK_API_URL": "https://api.clerk.com/v1", "CLERK_ISSUER": ""}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    for check_id in ("clerk.E001", "clerk.E010", "clerk.E011", "clerk.W002"):
        assert check_id in done.stderr
