"""Settings of a project that installs the apps: texts from its environment, None, and malformed values."""

import pytest
from pytest_django import Settings

from clerk_integration.conf import clerk_settings, request_limit, stalled_worker_seconds


def test_settings_lists_may_be_one_text_with_commas(settings: Settings) -> None:
    settings.CLERK_AUTHORIZED_PARTIES = "https://a.example, https://b.example,"
    settings.CLERK_AUDIENCE = "shop"
    settings.CLERK_WEBHOOK_SIGNING_SECRET = "whsec_1,whsec_2"

    tokens = clerk_settings.session_tokens
    assert tokens.authorized_parties == {"https://a.example", "https://b.example"}
    assert tokens.audience == {"shop"}
    assert clerk_settings.webhook_signing_secrets == ("whsec_1", "whsec_2")


def test_settings_malformed_list_admits_no_token(settings: Settings) -> None:
    settings.CLERK_AUTHORIZED_PARTIES = 7

    assert clerk_settings.session_tokens.authorized_parties == {"7"}


def test_settings_none_counts_as_unset(settings: Settings) -> None:
    for name in ("CLERK_SECRET_KEY", "CLERK_ISSUER", "CLERK_INSTANCE_ID", "CLERK_AUDIENCE", "CLERK_JWT_KEY"):
        setattr(settings, name, None)
    settings.TENANT_LIST_LIMIT = None

    assert (clerk_settings.secret_key, clerk_settings.instance_id, clerk_settings.jwt_key) == ("", "", "")
    assert clerk_settings.session_tokens.issuer == ""
    assert clerk_settings.session_tokens.audience == frozenset()
    assert request_limit("TENANT_LIST_LIMIT") == (120, "minute")


@pytest.mark.parametrize("value", [None, "soon"])
def test_settings_malformed_worker_timeout_counts_as_unset(settings: Settings, value: object) -> None:
    settings.PROCRASTINATE_WORKER_DEFAULTS = {"stalled_worker_timeout": value}

    assert stalled_worker_seconds() == 30.0
