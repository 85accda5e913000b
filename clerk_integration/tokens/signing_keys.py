"""The public keys that verify Clerk's session tokens.

With CLERK_JWT_KEY set there is one key and no network call. Otherwise the keys come from Clerk's JWKS and are
kept per process:

- A fetched set is fresh for 5 minutes. After that, the next request fetches the set again. Concurrent
  requests use the old set.
- If the set lacks the key of a token, the set is fetched again, because Clerk may just have rotated its keys.
- At least 11 seconds lie between the beginnings of two fetches, whatever the tokens contain and even if a
  fetch failed. Forged key ids therefore cause at most 6 fetches a minute. A genuine token is refused for at
  most 14 seconds (the interval and one fetch) after its key was published, or after a failed first fetch.
- While Clerk is down, the old set is used for up to 24 hours after it was fetched.
- A new set replaces the old set completely. A key that Clerk has withdrawn is refused from then on.
"""

import base64
import binascii
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from django.core.signals import setting_changed
from django.dispatch import receiver
from jwt import PyJWTError
from jwt.algorithms import RSAAlgorithm

from clerk_integration.conf import JWKS_TIMEOUT_SECONDS, clerk_settings
from clerk_integration.exceptions import (
    ClerkError,
    ClerkMisconfigured,
    ClerkNotAsked,
    ClerkProtocolError,
    SessionTokenError,
    SigningKeysUnavailable,
)
from clerk_integration.wire.breaker import waiting_for_clerk
from clerk_integration.wire.client import fetch_jwks

logger = logging.getLogger(__name__)

FRESH_SECONDS = 5 * 60
"""Age up to which a fetched set is used without a new fetch."""

STALE_SECONDS = 24 * 60 * 60
"""Age up to which a fetched set is used while Clerk cannot be reached."""

FETCH_INTERVAL_SECONDS = 11
"""Least time between the beginnings of two fetches: at most 6 in any minute."""

MAX_KID_LENGTH = 128
MIN_KEY_BITS = 2048

_PEM_FRAME = re.compile(r"-----[A-Z ]+-----")

JwksFetcher = Callable[[], Iterable[Mapping[str, Any]]]


def get_signing_key(kid: str | None) -> RSAPublicKey:
    """Return the key that must have signed a token with `kid` in its header.

    With CLERK_JWT_KEY, `kid` is ignored. Otherwise this function may call Clerk's JWKS, for at most 3
    seconds. Raises SessionTokenError for a missing or unknown key id, SigningKeysUnavailable if Clerk could
    not be called, and ClerkMisconfigured if CLERK_JWT_KEY or CLERK_SECRET_KEY is wrong.
    """
    if pem := clerk_settings.jwt_key:
        return load_jwt_key(pem)
    if not kid or len(kid) > MAX_KID_LENGTH:
        raise _unknown_key()
    return _jwks().get(kid)


@lru_cache(maxsize=4)
def load_jwt_key(pem: str) -> RSAPublicKey:
    """Read the PEM public key of CLERK_JWT_KEY; raise ClerkMisconfigured if the PEM is invalid.

    Whitespace is ignored, because environment variables often lose the line breaks of a PEM.
    """
    try:
        body = base64.b64decode("".join(_PEM_FRAME.sub("", pem).split()), validate=True)
        key = load_der_public_key(body)
    except (binascii.Error, ValueError, UnsupportedAlgorithm) as exc:
        raise _bad_jwt_key() from exc
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
        raise _bad_jwt_key()
    return key


class JwksKeys:
    """The keys of one JWKS, kept and fetched as the module's docstring describes; thread-safe."""

    def __init__(self, fetch: JwksFetcher = fetch_jwks, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._condition = threading.Condition()
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched_at = -math.inf
        self._attempted_at = -math.inf
        self._fetching = False
        self._failure: ClerkError | None = None

    def get(self, kid: str) -> RSAPublicKey:
        """Return the key named `kid`; fetch the keys first if a fetch is due. Raises as `get_signing_key`."""
        if self._claim_fetch(kid):
            self._refresh()
        else:
            self._await_fetch(kid)
        with self._condition:
            return self._answer(kid)

    def _claim_fetch(self, kid: str) -> bool:
        """Return whether this thread must fetch the keys."""
        with self._condition:
            if self._fetching:
                return False
            is_fresh = kid in self._keys and self._age() < FRESH_SECONDS
            if is_fresh or self._seconds_to_next_fetch() > 0:
                return False
            self._fetching = True
            self._attempted_at = self._clock()
            return True

    def _await_fetch(self, kid: str) -> None:
        """Wait for another thread's fetch if `kid` depends on it and not too many threads wait for Clerk."""
        if not self._fetching or self._has(kid):
            return
        # If too many threads wait, answer as if the fetch took too long.
        with suppress(ClerkNotAsked), waiting_for_clerk(), self._condition:
            self._condition.wait_for(lambda: not self._fetching, JWKS_TIMEOUT_SECONDS)

    def _refresh(self) -> None:
        keys: dict[str, RSAPublicKey] = {}
        failure: ClerkError | None = SigningKeysUnavailable(
            "The fetch of the keys was interrupted.", retry_after=FETCH_INTERVAL_SECONDS
        )
        try:
            keys, failure = self._fetched_keys()
        finally:
            with self._condition:
                self._fetching = False
                self._failure = failure
                if failure is None:
                    self._keys = keys
                    self._fetched_at = self._clock()
                self._condition.notify_all()

    def _fetched_keys(self) -> tuple[dict[str, RSAPublicKey], ClerkError | None]:
        try:
            keys = _usable_keys(self._fetch())
        except ClerkError as exc:
            level = logging.CRITICAL if isinstance(exc, ClerkMisconfigured) else logging.WARNING
            logger.log(level, "The keys of Clerk's session tokens could not be fetched: %s", exc)
            return {}, exc
        if not keys:
            logger.warning("Clerk's JWKS holds no RSA key to verify session tokens with; kept the old ones")
            return {}, ClerkProtocolError("Clerk's JWKS holds no usable key.")
        return keys, None

    def _answer(self, kid: str) -> RSAPublicKey:
        if self._has(kid):
            return self._keys[kid]
        if self._failure is None and not self._fetching and self._age() < STALE_SECONDS:
            raise _unknown_key()
        if isinstance(self._failure, ClerkMisconfigured):
            raise ClerkMisconfigured(self._failure.message)
        raise SigningKeysUnavailable(
            "Session tokens cannot be verified: Clerk's signing keys could not be fetched. Nothing was "
            "done. Try again later.",
            retry_after=max(1.0, self._seconds_to_next_fetch()),
        ) from self._failure

    def _has(self, kid: str) -> bool:
        return kid in self._keys and self._age() < STALE_SECONDS

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _seconds_to_next_fetch(self) -> float:
        return self._attempted_at + FETCH_INTERVAL_SECONDS - self._clock()


def _usable_keys(jwks: Iterable[Mapping[str, Any]]) -> dict[str, RSAPublicKey]:
    """Return the RSA keys of the JWKS by key id; skip other entries."""
    return {str(jwk["kid"]): key for jwk in jwks if (key := _usable_key(jwk)) is not None}


def _usable_key(jwk: object) -> RSAPublicKey | None:
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str):
        return None
    if jwk.get("alg", "RS256") != "RS256" or jwk.get("use", "sig") != "sig":
        return None
    try:
        key = RSAAlgorithm.from_jwk(jwk)
    except (PyJWTError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= MIN_KEY_BITS else None


def _unknown_key() -> SessionTokenError:
    return SessionTokenError(
        "The session token is signed with a key that Clerk does not have for this application. Try again "
        "in 15 seconds; if that does not help, the application and this server use different Clerk "
        "instances.",
        code="jwk_kid_mismatch",
    )


def _bad_jwt_key() -> ClerkMisconfigured:
    return ClerkMisconfigured(
        "CLERK_JWT_KEY is not the PEM public key of an RSA key pair. Copy it again from Clerk's "
        "dashboard (API keys, JWKS public key), or unset it to have the keys fetched."
    )


_sets: dict[tuple[str, str], JwksKeys] = {}


def _jwks() -> JwksKeys:
    """Return the signing keys of the Clerk instance that the current settings name."""
    source = (clerk_settings.api_url, clerk_settings.secret_key)
    # If two threads arrive at the same time, setdefault keeps one object: only this object fetches.
    return _sets.get(source) or _sets.setdefault(source, JwksKeys())


@receiver(setting_changed)
def forget_keys(*, setting: str, **kwargs: object) -> None:
    """Forget all keys if a test changes a setting on which the keys depend."""
    if setting in {"CLERK_API_URL", "CLERK_SECRET_KEY", "CLERK_JWT_KEY"}:
        _sets.clear()


# A lock that another thread holds during a fork stays locked in the child forever.
os.register_at_fork(after_in_child=_sets.clear)
