"""Which verified tokens are kept in memory, and when a kept token is verified again."""

import time
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest
from pytest_django import Settings

from clerk_integration.exceptions import SessionTokenError
from clerk_integration.tokens.authentication import authenticate_session_token
from clerk_integration.tokens.verified import Verified, VerifiedToken, verified_tokens
from tests.jwks_server import JwksServer, running_jwks_server
from tests.tokens import KID, forged_token, jwk, public_pem, session_token

OTHER_KID = "ins_second"


@pytest.fixture
def jwks(settings: Settings) -> Iterator[JwksServer]:
    """A JWKS endpoint with one key that Django's settings point at."""
    with running_jwks_server() as server:
        server.keys = [jwk()]
        settings.CLERK_SECRET_KEY = "sk_test_of_this_test"
        settings.CLERK_API_URL = server.api_url
        yield server


@pytest.fixture
def verified(settings: Settings) -> VerifiedToken:
    """A verified token, valid for a minute."""
    verified_tokens.clear()
    settings.CLERK_JWT_KEY = public_pem()
    token = session_token()
    authenticate_session_token(token)
    kept = verified_tokens.get(sha256(token.encode()).digest())
    assert kept is not None
    return kept


def refused_code(token: str) -> str:
    with pytest.raises(SessionTokenError) as refused:
        authenticate_session_token(token)
    return refused.value.code


def test_token_when_repeated_is_not_verified_again(settings: Settings) -> None:
    settings.CLERK_JWT_KEY = public_pem()
    token = session_token()
    assert authenticate_session_token(token) is authenticate_session_token(token)


def test_token_when_its_signature_is_replaced_is_verified_again(verified: VerifiedToken) -> None:
    header, claims, _ = session_token().split(".")
    authenticate_session_token(session_token())
    assert refused_code(f"{header}.{claims}.{forged_token().rpartition('.')[2]}") == "token_invalid_signature"


def test_token_when_the_configured_key_changes_is_refused(settings: Settings) -> None:
    settings.CLERK_JWT_KEY = public_pem()
    token = session_token()
    authenticate_session_token(token)
    settings.CLERK_JWT_KEY = public_pem(OTHER_KID)
    assert refused_code(token) == "token_invalid_signature"


@pytest.mark.parametrize(("kid", "code"), [(OTHER_KID, "jwk_kid_mismatch"), (KID, "token_invalid_signature")])
def test_token_when_clerk_replaces_its_key_is_refused_after_the_next_fetch(
    jwks: JwksServer, settings: Settings, kid: str, code: str
) -> None:
    token = session_token()
    authenticate_session_token(token)
    jwks.keys = [{**jwk(OTHER_KID), "kid": kid}]
    settings.CLERK_API_URL = jwks.api_url  # Setting it again forgets the fetched keys.
    assert refused_code(token) == code


def test_token_when_the_same_keys_are_fetched_again_is_accepted(jwks: JwksServer, settings: Settings) -> None:
    token = session_token()
    user = authenticate_session_token(token)
    settings.CLERK_API_URL = jwks.api_url
    assert authenticate_session_token(token) == user
    assert jwks.fetches == 2


@pytest.mark.parametrize("token", [forged_token, lambda: session_token(exp=1), lambda: session_token(v=9)])
def test_refused_token_is_not_kept(verified: VerifiedToken, token: Callable[[], str]) -> None:
    before = len(verified_tokens)
    refused_code(token())
    assert len(verified_tokens) == before


def test_verified_tokens_above_their_number_drop_the_oldest(verified: VerifiedToken) -> None:
    tokens = Verified[VerifiedToken](size=3)
    for number in range(5):
        tokens.add(bytes([number]), verified)
    assert [tokens.get(bytes([number])) is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_verified_tokens_that_have_expired_are_dropped(verified: VerifiedToken) -> None:
    tokens = Verified[VerifiedToken](size=3)
    tokens.add(b"expired", verified._replace(expires_at=int(time.time()) - 1))
    tokens.add(b"valid", verified)
    assert (tokens.get(b"expired"), tokens.get(b"valid"), len(tokens)) == (None, verified, 1)
