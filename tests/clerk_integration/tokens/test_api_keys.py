"""Which API keys are accepted, for which user, and for how long a verification is used."""

import time
from typing import Any

import pytest
from pytest_django import Settings

from clerk_integration.exceptions import ClerkRateLimited, ClerkUnavailable, SessionTokenError
from clerk_integration.tokens import api_keys
from clerk_integration.tokens.bearer import authenticate_bearer
from clerk_integration.tokens.clerk_user import ClerkUser
from clerk_integration.wire import pace
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)

VERIFY = "POST /v1/api_keys/verify"


@pytest.fixture(autouse=True)
def accepted(settings: Settings) -> None:
    settings.CLERK_ACCEPT_API_KEYS = True
    api_keys.verified_keys.clear()


@pytest.fixture
def user_id(sandbox: SandboxControl) -> str:
    return str(sandbox.user()["id"])


def verifications(sandbox: SandboxControl) -> int:
    return sum(request["path"] == "/v1/api_keys/verify" for request in sandbox.requests())


def refusal_code(secret: str) -> str:
    with pytest.raises(SessionTokenError) as refused:
        authenticate_bearer(secret)
    return refused.value.code


def let_time_pass(seconds: float) -> None:
    """Make the kept verifications older."""
    for digest, key in list(api_keys.verified_keys._tokens.items()):
        api_keys.verified_keys._tokens[digest] = key._replace(verified_at=key.verified_at - seconds)


def test_api_key_signs_in_its_user_with_its_scopes_as_permissions(
    sandbox: SandboxControl, user_id: str
) -> None:
    key = sandbox.api_key(user_id, scopes=["invoices:read", "org:invoices:create"])

    assert authenticate_bearer(key["secret"]) == ClerkUser(
        clerk_user_id=user_id,
        session_id="",
        organization_permissions=frozenset({"org:invoices:read", "org:invoices:create"}),
        api_key_id=key["id"],
    )


@pytest.mark.parametrize("value", [False, None, "", "false", "0", "off", "ture", 7])
def test_api_key_is_refused_without_a_call_unless_the_setting_accepts_keys(
    sandbox: SandboxControl, user_id: str, settings: Settings, value: object
) -> None:
    settings.CLERK_ACCEPT_API_KEYS = value

    assert refusal_code(sandbox.api_key(user_id)["secret"]) == "token_invalid"
    assert verifications(sandbox) == 0


@pytest.mark.parametrize("value", [True, "true", " On ", "1"])
def test_api_key_is_accepted_if_the_setting_is_a_text_that_means_true(
    sandbox: SandboxControl, user_id: str, settings: Settings, value: object
) -> None:
    settings.CLERK_ACCEPT_API_KEYS = value

    assert isinstance(authenticate_bearer(sandbox.api_key(user_id)["secret"]), ClerkUser)


def test_api_key_is_verified_again_after_ten_seconds_or_a_change_of_the_clock(
    sandbox: SandboxControl, user_id: str
) -> None:
    secret = sandbox.api_key(user_id)["secret"]
    calls = []
    for seconds in (0, 9, 2, -60):
        let_time_pass(seconds)
        authenticate_bearer(secret)
        calls.append(verifications(sandbox))

    assert calls == [1, 1, 2, 3]


def test_api_key_that_is_revoked_is_refused_after_ten_seconds_at_the_latest(
    sandbox: SandboxControl, user_id: str
) -> None:
    key = sandbox.api_key(user_id)
    authenticate_bearer(key["secret"])
    sandbox.api("POST", f"/api_keys/{key['id']}/revoke", {})
    let_time_pass(10)

    assert [refusal_code(key["secret"]) for _ in range(3)] == ["api_key_revoked"] * 3
    assert verifications(sandbox) == 2, "a refusal is kept, too"


def test_api_key_that_expires_is_refused_at_once_with_and_without_a_kept_verification(
    sandbox: SandboxControl, user_id: str
) -> None:
    key = sandbox.api_key(user_id, secondsUntilExpiration=1)
    secret = key["secret"]
    authenticate_bearer(secret)
    # The local Clerk gives each record a millisecond of its own, so its clock may be ahead of ours.
    time.sleep(max(0, key["expiration"] / 1000 - time.time()) + 0.01)

    assert refusal_code(secret) == "api_key_expired"
    api_keys.verified_keys.clear()
    assert refusal_code(secret) == "api_key_expired"


@pytest.mark.parametrize(
    "secret", ["ak_", "ak_short", "ak_" + "é" * 20, "ak_" + "a" * 300, "ak_" + "a/b" * 9]
)
def test_api_key_of_the_wrong_form_is_refused_without_a_call(sandbox: SandboxControl, secret: str) -> None:
    assert refusal_code(secret) == "api_key_invalid"
    assert verifications(sandbox) == 0


def test_api_key_that_clerk_does_not_know_is_refused(sandbox: SandboxControl) -> None:
    assert refusal_code("ak_" + "a" * 40) == "api_key_invalid"


@pytest.mark.parametrize("kind", ["organization", "machine"])
def test_api_key_that_belongs_to_no_user_is_refused(sandbox: SandboxControl, kind: str) -> None:
    subject = sandbox.organization()["id"] if kind == "organization" else "mch_" + "a" * 27

    assert refusal_code(sandbox.api_key(subject)["secret"]) == "api_key_subject_not_supported"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"revoked": None}, "api_key_revoked"),
        ({"expired": "no"}, "api_key_expired"),
        ({"subject": None}, "api_key_subject_not_supported"),
    ],
)
def test_api_key_whose_reply_does_not_say_that_it_is_valid_is_refused(
    sandbox: SandboxControl, user_id: str, changes: dict[str, Any], code: str
) -> None:
    secret = sandbox.api_key(user_id)["secret"]
    sandbox.fault(VERIFY, patch=changes)

    assert refusal_code(secret) == code


@pytest.mark.parametrize(
    ("fault", "error"), [({"status": 503}, ClerkUnavailable), ({"rateLimit": 1}, ClerkRateLimited)]
)
def test_api_key_while_clerk_fails_is_not_refused_and_serves_if_it_was_verified(
    sandbox: SandboxControl, user_id: str, fault: dict[str, Any], error: type[Exception]
) -> None:
    known, unknown = (sandbox.api_key(user_id)["secret"] for _ in range(2))
    authenticate_bearer(known)
    sandbox.fault(VERIFY, times=9, **fault)

    with pytest.raises(error):
        authenticate_bearer(unknown)
    assert authenticate_bearer(known).clerk_user_id == user_id


def test_api_key_verification_takes_a_slot_of_the_shared_pace(sandbox: SandboxControl, user_id: str) -> None:
    with pace.paced():
        pace.postpone(0)
        pace.use_slot()
        pace.postpone(20)
    try:
        with pytest.raises(ClerkRateLimited):
            authenticate_bearer(sandbox.api_key(user_id)["secret"])
    finally:
        with pace.paced():
            pace.postpone(0)
    assert verifications(sandbox) == 0
