"""A session token at its first and at its next request, beside PyJWT and Clerk's SDK."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jwt
from clerk_backend_api.security.types import VerifyTokenOptions
from clerk_backend_api.security.verifytoken import verify_token
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.test import override_settings
from jwt.utils import base64url_decode

from clerk_integration.tokens.authentication import authenticate_session_token
from clerk_integration.tokens.verified import verified_tokens
from tests.benchmarks._report import Report
from tests.benchmarks._turns import Measure, Turns, seconds_of, take_turns
from tests.jwks_server import running_jwks_server
from tests.tokens import ORGANIZATION_ID, jwk, public_pem, session_token

PYJWT = "PyJWT with a prepared key"
TOKENS = 200
ORGANIZATION = {"id": ORGANIZATION_ID, "slg": "acme", "rol": "admin", "per": "read,manage", "fpm": "3,2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the number of rounds."""
    parser.add_argument("--rounds", type=int, default=40)


def run(arguments: argparse.Namespace) -> Report:
    """Check the same tokens in each way, with CLERK_JWT_KEY and with keys from Clerk's JWKS."""
    report = Report()
    rounds = 3 if arguments.quick else arguments.rounds
    tokens = [
        session_token(exp=4_000_000_000, jti=f"{number:020d}", o=ORGANIZATION, fea="o:articles,o:billing")
        for number in range(TOKENS)
    ]
    with override_settings(CLERK_JWT_KEY=public_pem()):
        _compare(report, "with CLERK_JWT_KEY", tokens, rounds)
    with running_jwks_server() as server:
        server.keys = [jwk()]
        with override_settings(CLERK_SECRET_KEY="sk_test_of_a_benchmark", CLERK_API_URL=server.api_url):
            _compare(report, "with Clerk's JWKS", tokens, rounds)
    return report


def _compare(report: Report, keys: str, tokens: Sequence[str], rounds: int) -> None:
    first = take_turns({"ours": _first_requests(tokens), **_others(tokens)}, rounds=rounds)
    report.compare(f"first request, {keys}", first, unit="us", scale=1e6)
    _require(report, f"first request, {keys}", first, 1.1)
    authenticate_all = _for_each(authenticate_session_token, tokens)
    authenticate_all()
    repeated = take_turns({"ours": _per_token(authenticate_all), **_others(tokens)}, rounds=rounds)
    report.compare(f"next request, {keys}", repeated, unit="us", scale=1e6)
    _require(report, f"next request, {keys}", repeated, 0.25)


def _require(report: Report, measured: str, turns: Turns, limit: float) -> None:
    report.require(f"{measured}: at most {limit} times {PYJWT}", turns.ratio("ours", PYJWT).median <= limit)


def _first_requests(tokens: Sequence[str]) -> Measure:
    """Measure authentication of tokens that no earlier request has sent."""
    measure = _per_token(_for_each(authenticate_session_token, tokens))

    def measured() -> float:
        verified_tokens.clear()
        return measure()

    return measured


def _others(tokens: Sequence[str]) -> dict[str, Measure]:
    key = load_pem_public_key(public_pem().encode())
    assert isinstance(key, RSAPublicKey)
    options = VerifyTokenOptions(jwt_key=public_pem())
    signed = list(_signed_parts(tokens))
    return {
        PYJWT: _per_token(_for_each(lambda token: jwt.decode(token, key, ["RS256"], leeway=5), tokens)),
        "Clerk's SDK": _per_token(_for_each(lambda token: verify_token(token, options), tokens)),
        "floor: RSA alone": _per_token(
            _for_each(lambda parts: key.verify(parts[0], parts[1], PKCS1v15(), SHA256()), signed)
        ),
    }


def _signed_parts(tokens: Sequence[str]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the signature of each token, and what is signed."""
    for token in tokens:
        content, _, signature = token.rpartition(".")
        yield base64url_decode(signature), content.encode()


def _for_each(check: Callable[[Any], object], items: Sequence[Any]) -> Callable[[], None]:
    def check_all() -> None:
        for item in items:
            check(item)

    return check_all


def _per_token(check_all: Callable[[], None]) -> Measure:
    measure = seconds_of(check_all)
    return lambda: measure() / TOKENS
