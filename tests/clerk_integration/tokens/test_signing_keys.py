"""When the keys of session tokens are fetched, and which keys serve meanwhile."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pytest_django import DjangoAssertNumQueries, Settings

from clerk_integration import web_requests
from clerk_integration.conf import JWKS_TIMEOUT_SECONDS
from clerk_integration.exceptions import (
    ClerkMisconfigured,
    SessionTokenError,
    SigningKeysUnavailable,
)
from clerk_integration.tokens.authentication import authenticate_session_token
from clerk_integration.tokens.signing_keys import FETCH_INTERVAL_SECONDS, JwksKeys, load_jwt_key
from tests.jwks_server import JwksServer, running_jwks_server
from tests.tokens import KID, forged_token, handmade_token, jwk, private_key, public_pem, session_token

MINUTE = 60
FRESH = 5 * MINUTE
DAY = 24 * 60 * MINUTE
OTHER_KID = "ins_second"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def jwks(settings: Settings) -> Iterator[JwksServer]:
    """A JWKS endpoint with one key that Django's settings point at."""
    with running_jwks_server() as server:
        server.keys = [jwk()]
        settings.CLERK_SECRET_KEY = "sk_test_of_this_test"
        settings.CLERK_API_URL = server.api_url
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(jwks: JwksServer, clock: Clock) -> JwksKeys:
    """A set of its own, under a clock that the test moves."""
    return JwksKeys(clock=clock)


def public_key(kid: str = KID) -> RSAPublicKey:
    return private_key(kid).public_key()


def refused_code(call: Callable[[], object]) -> str:
    with pytest.raises(SessionTokenError) as refused:
        call()
    return refused.value.code


def at_once(count: int, call: Callable[[int], object]) -> list[object]:
    """Results, or exceptions, of `count` calls that eight threads begin together."""
    barrier = threading.Barrier(8)

    def worker(first: int) -> list[object]:
        barrier.wait()
        return [outcome(number) for number in range(first, count, 8)]

    def outcome(number: int) -> object:
        try:
            return call(number)
        except Exception as exc:
            return exc

    with ThreadPoolExecutor(8) as pool:
        return [result for results in pool.map(worker, range(8)) for result in results]


# --- through the public function, over HTTP ---------------------------------------------------------


def test_session_token_is_verified_with_a_fetched_key_and_one_fetch(jwks: JwksServer) -> None:
    for _ in range(3):
        authenticate_session_token(session_token())
    assert jwks.fetches == 1


def test_session_tokens_in_many_threads_share_one_fetch(jwks: JwksServer) -> None:
    tokens = [session_token() for _ in range(40)]
    users = at_once(40, lambda number: authenticate_session_token(tokens[number]))
    assert {str(user) for user in users} == {str(authenticate_session_token(tokens[0]))}
    assert jwks.fetches == 1


def test_forged_tokens_of_one_key_id_each_cost_one_fetch_together(jwks: JwksServer) -> None:
    tokens = [forged_token(kid=f"ins_forged{number}") for number in range(100)]
    results = at_once(100, lambda number: authenticate_session_token(tokens[number]))
    assert {getattr(result, "code", result) for result in results} == {"jwk_kid_mismatch"}
    assert jwks.fetches == 1


def test_forged_tokens_of_a_known_key_id_cost_no_fetch_beyond_the_first(jwks: JwksServer) -> None:
    token = forged_token()
    results = at_once(100, lambda _: authenticate_session_token(token))
    assert {getattr(result, "code", result) for result in results} == {"token_invalid_signature"}
    assert jwks.fetches == 1


def test_forged_tokens_while_clerk_fails_cost_one_fetch_together(jwks: JwksServer) -> None:
    jwks.status = 503
    tokens = [forged_token(kid=f"ins_forged{number}") for number in range(100)]
    results = at_once(100, lambda number: authenticate_session_token(tokens[number]))
    assert {type(result) for result in results} == {SigningKeysUnavailable}
    assert jwks.fetches == 1


@pytest.mark.parametrize(
    "token",
    [
        lambda: "garbage",
        lambda: session_token(headers={"cat": "cl_B7d4PD222AAA"}),
        lambda: handmade_token({"alg": "HS256", "kid": "ins_forged"}, {}, b"x"),
        lambda: session_token(headers={"kid": "x" * 200}),
    ],
)
def test_token_that_is_refused_by_its_header_costs_no_fetch(
    jwks: JwksServer, token: Callable[[], str]
) -> None:
    with pytest.raises(SessionTokenError):
        authenticate_session_token(token())
    assert jwks.fetches == 0


def test_token_without_a_key_id_is_refused_without_a_fetch(jwks: JwksServer) -> None:
    token = session_token(headers={"kid": None})
    assert refused_code(lambda: authenticate_session_token(token)) == "jwk_kid_mismatch"
    assert jwks.fetches == 0


def test_unreachable_clerk_is_unavailable_and_names_the_wait(settings: Settings) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_of_this_test"
    settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
    with pytest.raises(SigningKeysUnavailable) as unavailable:
        authenticate_session_token(session_token())
    assert 0 < unavailable.value.retry_after <= FETCH_INTERVAL_SECONDS


def test_hanging_clerk_is_unavailable_within_the_ceiling_for_everybody(jwks: JwksServer) -> None:
    jwks.answers.clear()
    token = session_token()
    began = time.monotonic()
    results = at_once(16, lambda _: authenticate_session_token(token))
    assert time.monotonic() - began < 4.5
    assert {type(result) for result in results} == {SigningKeysUnavailable}
    assert jwks.fetches == 1


def test_hanging_clerk_holds_no_more_web_threads_than_may_wait(settings: Settings) -> None:
    settings.CLERK_MAX_WAITING = 2
    is_fetching, has_ended = threading.Event(), threading.Event()

    def hang() -> list[dict[str, Any]]:
        is_fetching.set()
        has_ended.wait(10)
        return [jwk()]

    keys = JwksKeys(hang)

    def wait() -> RSAPublicKey:
        web_requests.begin_request()
        return keys.get(KID)

    with ThreadPoolExecutor(4) as pool:
        fetcher = pool.submit(keys.get, KID)
        assert is_fetching.wait(10)
        waiting = [pool.submit(wait) for _ in range(3)]
        done, held = wait_for_futures(waiting, return_when=FIRST_COMPLETED, timeout=2.5)
        has_ended.set()
        assert len(held) == 2
        with pytest.raises(SigningKeysUnavailable):
            done.pop().result()
        assert all(future.result() == fetcher.result() for future in held)


def test_missing_secret_key_is_a_misconfiguration(settings: Settings) -> None:
    settings.CLERK_SECRET_KEY = ""
    with pytest.raises(ClerkMisconfigured, match="CLERK_SECRET_KEY"):
        authenticate_session_token(session_token())


@pytest.mark.django_db
def test_authentication_with_a_key_at_hand_makes_no_query_and_no_fetch(
    jwks: JwksServer, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    authenticate_session_token(session_token())
    before = jwks.fetches
    with django_assert_num_queries(0):
        authenticate_session_token(session_token())
    assert jwks.fetches == before


def test_jwt_key_when_set_replaces_every_fetch(jwks: JwksServer, settings: Settings) -> None:
    settings.CLERK_JWT_KEY = public_pem()
    authenticate_session_token(session_token(headers={"kid": "ins_unknown"}))
    assert jwks.fetches == 0


def test_other_instance_in_the_settings_starts_over(jwks: JwksServer, settings: Settings) -> None:
    authenticate_session_token(session_token())
    with running_jwks_server() as other:
        other.keys = [jwk(OTHER_KID)]
        settings.CLERK_API_URL = other.api_url
        authenticate_session_token(session_token(kid=OTHER_KID))
        assert refused_code(lambda: authenticate_session_token(session_token())) == "jwk_kid_mismatch"
        assert (jwks.fetches, other.fetches) == (1, 1)


def test_settings_set_anew_start_over(jwks: JwksServer, settings: Settings) -> None:
    authenticate_session_token(session_token())
    settings.CLERK_API_URL = jwks.api_url
    authenticate_session_token(session_token())
    assert jwks.fetches == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_process_while_a_fetch_runs_fetches_for_itself(jwks: JwksServer) -> None:
    token = session_token()
    jwks.answers.clear()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(authenticate_session_token, token)
        wait_until(lambda: jwks.fetches == 1)
        child = os.fork()
        if child == 0:
            exit_after(lambda: authenticate_session_token(token))
        wait_until(lambda: jwks.fetches == 2)
        jwks.answers.set()
        assert os.waitpid(child, 0)[1] == 0


def exit_after(call: Callable[[], object]) -> NoReturn:
    """End this process, with 0 only if the call returns."""
    code = 1
    try:
        call()
        code = 0
    finally:
        os._exit(code)


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


# --- over time --------------------------------------------------------------------------------------


def test_keys_while_fresh_are_not_fetched_again(keys: JwksKeys, jwks: JwksServer, clock: Clock) -> None:
    keys.get(KID)
    clock.now += FRESH - 1
    keys.get(KID)
    assert jwks.fetches == 1


def test_keys_no_longer_fresh_are_fetched_again(keys: JwksKeys, jwks: JwksServer, clock: Clock) -> None:
    keys.get(KID)
    clock.now += FRESH
    assert keys.get(KID).public_numbers() == public_key().public_numbers()
    assert jwks.fetches == 2


def test_rotated_key_is_found_by_one_fetch(keys: JwksKeys, jwks: JwksServer, clock: Clock) -> None:
    keys.get(KID)
    jwks.keys = [jwk(), jwk(OTHER_KID)]
    clock.now += MINUTE
    assert keys.get(OTHER_KID).public_numbers() == public_key(OTHER_KID).public_numbers()
    assert keys.get(KID)
    assert jwks.fetches == 2


def test_rotated_key_within_the_interval_is_refused_and_found_after_it(
    keys: JwksKeys, jwks: JwksServer, clock: Clock
) -> None:
    keys.get(KID)
    jwks.keys = [jwk(), jwk(OTHER_KID)]
    clock.now += FETCH_INTERVAL_SECONDS - 1
    assert refused_code(lambda: keys.get(OTHER_KID)) == "jwk_kid_mismatch"
    clock.now += 1
    assert keys.get(OTHER_KID)
    assert jwks.fetches == 2


@pytest.mark.parametrize("lag", [1, 30, 200])
def test_jwks_that_lags_behind_a_rotation_costs_15_seconds_after_it_has_caught_up(
    keys: JwksKeys, jwks: JwksServer, clock: Clock, lag: int
) -> None:
    keys.get(KID)
    clock.now += MINUTE
    for _ in range(lag):
        assert refused_code(lambda: keys.get(OTHER_KID)) == "jwk_kid_mismatch"
        clock.now += 1

    jwks.keys = [jwk(), jwk(OTHER_KID)]

    assert seconds_refused(keys, OTHER_KID, clock) + JWKS_TIMEOUT_SECONDS <= 15


def seconds_refused(keys: JwksKeys, kid: str, clock: Clock) -> int:
    """Ask for the key every second, and return for how long it was refused."""
    for second in range(10 * MINUTE):
        with suppress(SessionTokenError, SigningKeysUnavailable):
            assert keys.get(kid)
            return second
        clock.now += 1
    raise AssertionError("refused for ten minutes")


def test_withdrawn_key_is_refused_after_the_next_fetch(
    keys: JwksKeys, jwks: JwksServer, clock: Clock
) -> None:
    keys.get(KID)
    jwks.keys = [jwk(OTHER_KID)]
    clock.now += FRESH
    assert refused_code(lambda: keys.get(KID)) == "jwk_kid_mismatch"


@pytest.mark.parametrize("status", [200, 503])
def test_unknown_key_ids_without_end_cost_at_most_6_fetches_in_any_minute(
    keys: JwksKeys, jwks: JwksServer, clock: Clock, status: int
) -> None:
    jwks.status = status
    fetches_at = []
    for number in range(300):
        before = jwks.fetches
        with pytest.raises((SessionTokenError, SigningKeysUnavailable)):
            keys.get(f"ins_forged{number}")
        fetches_at += [clock.now] * (jwks.fetches - before)
        clock.now += 1
    assert max(sum(0 <= other - began <= MINUTE for other in fetches_at) for began in fetches_at) <= 6


def test_keys_while_clerk_is_down_serve_for_a_day(keys: JwksKeys, jwks: JwksServer, clock: Clock) -> None:
    keys.get(KID)
    jwks.status = 500
    clock.now += DAY - 1
    assert keys.get(KID)
    clock.now += 1
    with pytest.raises(SigningKeysUnavailable):
        keys.get(KID)


def test_keys_while_clerk_is_down_are_fetched_6_times_a_minute(
    keys: JwksKeys, jwks: JwksServer, clock: Clock
) -> None:
    keys.get(KID)
    jwks.status = 500
    clock.now += FRESH
    for _ in range(MINUTE):
        keys.get(KID)
        clock.now += 1
    assert jwks.fetches == 1 + 6


def test_unknown_key_id_while_clerk_is_down_is_unavailable_not_refused(
    keys: JwksKeys, jwks: JwksServer, clock: Clock
) -> None:
    keys.get(KID)
    jwks.status = 500
    clock.now += MINUTE
    with pytest.raises(SigningKeysUnavailable):
        keys.get(OTHER_KID)
    assert keys.get(KID)


def test_first_fetch_when_it_fails_costs_15_seconds_and_names_the_wait(
    keys: JwksKeys, jwks: JwksServer, clock: Clock
) -> None:
    jwks.status = 500
    with pytest.raises(SigningKeysUnavailable):
        keys.get(KID)
    jwks.status = 200
    clock.now += 1
    with pytest.raises(SigningKeysUnavailable) as unavailable:
        keys.get(KID)
    assert unavailable.value.retry_after == FETCH_INTERVAL_SECONDS - 1
    assert 1 + seconds_refused(keys, KID, clock) + JWKS_TIMEOUT_SECONDS <= 15
    assert jwks.fetches == 2


def test_refused_secret_key_is_a_misconfiguration_unless_keys_are_at_hand(
    keys: JwksKeys, jwks: JwksServer, clock: Clock
) -> None:
    jwks.status = 401
    with pytest.raises(ClerkMisconfigured):
        keys.get(KID)
    jwks.status = 200
    clock.now += MINUTE
    keys.get(KID)
    jwks.status = 401
    clock.now += FRESH
    assert keys.get(KID)


def test_stale_key_serves_others_while_one_thread_fetches(
    keys: JwksKeys, jwks: JwksServer, clock: Clock
) -> None:
    keys.get(KID)
    clock.now += FRESH
    jwks.answers.clear()
    fetching = threading.Thread(target=keys.get, args=(KID,))
    fetching.start()
    wait_until(lambda: jwks.fetches == 2)
    assert keys.get(KID)
    assert fetching.is_alive()
    jwks.answers.set()
    fetching.join()
    assert jwks.fetches == 2


# --- what counts as a key ---------------------------------------------------------------------------


def unusable_keys() -> list[Any]:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    curve: dict[str, Any] = ECAlgorithm.to_jwk(
        ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True
    )
    return [
        {},
        {"kid": "no type"},
        {"kid": 5, "kty": "RSA"},
        {**jwk(OTHER_KID), "kid": None},
        {**jwk(OTHER_KID), "alg": "RS512"},
        {**jwk(OTHER_KID), "alg": None},
        {**jwk(OTHER_KID), "use": "enc"},
        {**jwk(OTHER_KID), "n": "!!"},
        {**jwk(OTHER_KID), "n": 7},
        {**jwk(OTHER_KID), "e": ""},
        {**jwk(OTHER_KID), "n": "AQAB"},
        {**RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True), "kid": OTHER_KID},
        {**RSAAlgorithm.to_jwk(private_key(OTHER_KID), as_dict=True), "kid": OTHER_KID},
        {**curve, "kid": OTHER_KID, "alg": "ES256"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": OTHER_KID},
    ]


def test_jwks_with_odd_entries_yields_its_good_ones(keys: JwksKeys, jwks: JwksServer) -> None:
    jwks.keys = [*unusable_keys(), jwk()]
    assert keys.get(KID)
    assert refused_code(lambda: keys.get(OTHER_KID)) == "jwk_kid_mismatch"


def test_jwks_without_a_usable_key_keeps_the_old_ones(keys: JwksKeys, jwks: JwksServer, clock: Clock) -> None:
    keys.get(KID)
    jwks.keys = unusable_keys()
    clock.now += FRESH
    assert keys.get(KID)


@pytest.mark.parametrize(
    "written",
    [
        lambda pem: pem,
        lambda pem: pem.replace("\n", "\\n"),
        lambda pem: pem.replace("\n", "\r\n"),
        lambda pem: pem.replace("\n", " "),
        lambda pem: pem.replace("\n", ""),
        lambda pem: f"\n  {pem}  \n",
    ],
)
def test_jwt_key_in_any_notation_verifies_tokens(settings: Settings, written: Callable[[str], str]) -> None:
    settings.CLERK_JWT_KEY = written(public_pem())
    assert authenticate_session_token(session_token())


def test_jwt_key_is_parsed_once() -> None:
    assert load_jwt_key(public_pem()) is load_jwt_key(public_pem())


def curve_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def weak_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "pem", [lambda: "pk_test_key", lambda: public_pem()[:200], curve_pem, weak_pem, lambda: "é"]
)
def test_jwt_key_that_is_none_is_a_misconfiguration_that_is_named(
    settings: Settings, pem: Callable[[], str]
) -> None:
    settings.CLERK_JWT_KEY = pem()
    with pytest.raises(ClerkMisconfigured, match="CLERK_JWT_KEY"):
        authenticate_session_token(session_token())
