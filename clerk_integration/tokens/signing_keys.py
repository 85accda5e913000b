"""The public keys that Clerk's session tokens are verified with.

With CLERK_JWT_KEY set there is one key and never a network call. Otherwise the keys come from
Clerk's JWKS, per process, under these rules:

- A fetched set is fresh for 5 minutes. After that the next request fetches again, alone; requests
  beside it go on with the old set instead of waiting.
- At most one fetch begins per minute, whatever the tokens say and whether or not it succeeds. A key
  id that is forged anew for every request therefore costs one call a minute, not one a request. The
  price: while no key was ever fetched, a failed fetch shuts everybody out for the rest of that minute
  (503, with the seconds to wait). Nothing tells a forged token from a real one then, so a shorter
  pause would belong to the forger, too. CLERK_JWT_KEY spares a process even that minute.
- A key id that a completed fetch did not find is remembered and causes none itself; it is found all
  the same when a later fetch brings it.
- While Clerk is down the old set serves for up to 24 hours after it was fetched: long enough for an
  outage, short enough that a withdrawn key does not live on.
- A set that arrives replaces the old one whole: a key that Clerk withdrew is refused from then on.
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
    ClerkProtocolError,
    SessionTokenError,
    SigningKeysUnavailable,
)
from clerk_integration.wire.client import fetch_jwks

logger = logging.getLogger(__name__)

FRESH_SECONDS = 5 * 60
"""Age up to which a fetched set is used without asking Clerk again."""

STALE_SECONDS = 24 * 60 * 60
"""Age up to which a fetched set serves while Clerk cannot be reached."""

FETCH_INTERVAL_SECONDS = 60
"""Least time between the beginnings of two fetches."""

MAX_REMEMBERED_KIDS = 1000
MAX_KID_LENGTH = 128
MIN_KEY_BITS = 2048

_PEM_FRAME = re.compile(r"-----[A-Z ]+-----")

JwksFetcher = Callable[[], Iterable[Mapping[str, Any]]]


def get_signing_key(kid: str | None) -> RSAPublicKey:
    """Return the key that a token with this `kid` in its header must be signed with.

    With CLERK_JWT_KEY `kid` is ignored. Otherwise it may call Clerk's JWKS, at most once a minute and
    for at most 3 seconds. Raises SessionTokenError for a key id that Clerk does not have (or none:
    Clerk's session tokens always name theirs), SigningKeysUnavailable when there is no telling
    because Clerk cannot be asked, ClerkMisconfigured when our own setting or secret key is wrong.
    """
    if pem := clerk_settings.jwt_key:
        return load_jwt_key(pem)
    if not kid or len(kid) > MAX_KID_LENGTH:
        raise _unknown_key()
    return _jwks().get(kid)


@lru_cache(maxsize=4)
def load_jwt_key(pem: str) -> RSAPublicKey:
    """Read the PEM public key of CLERK_JWT_KEY; raise ClerkMisconfigured when it is none.

    Environments often flatten the line breaks of a PEM into spaces or nothing; they carry no meaning.
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
    """One JWKS, kept as key objects under the rules of this module; safe to share between threads."""

    def __init__(self, fetch: JwksFetcher = fetch_jwks, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._condition = threading.Condition()
        self._keys: dict[str, RSAPublicKey] = {}
        self._absent_kids: set[str] = set()
        self._fetched_at = -math.inf
        self._attempted_at = -math.inf
        self._fetching = False
        self._failure: ClerkError | None = None

    def get(self, kid: str) -> RSAPublicKey:
        """Return the key named `kid`, fetching the set when that is due; raises as `get_signing_key`."""
        if self._claim_fetch(kid):
            self._refresh(kid)
        with self._condition:
            return self._answer(kid)

    def _claim_fetch(self, kid: str) -> bool:
        """Tell whether this thread must fetch; wait for another one's fetch if that is all there is."""
        with self._condition:
            if self._fetching:
                if not self._has(kid):
                    self._condition.wait_for(lambda: not self._fetching, JWKS_TIMEOUT_SECONDS)
                return False
            if self._is_settled(kid) or self._seconds_to_next_fetch() > 0:
                return False
            self._fetching = True
            self._attempted_at = self._clock()
            return True

    def _is_settled(self, kid: str) -> bool:
        is_fresh = self._age() < FRESH_SECONDS
        return is_fresh and (kid in self._keys or kid in self._absent_kids)

    def _refresh(self, kid: str) -> None:
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
                    self._replace(keys, kid)
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

    def _replace(self, keys: dict[str, RSAPublicKey], kid: str) -> None:
        self._keys = keys
        self._fetched_at = self._clock()
        self._absent_kids = (self._absent_kids | {kid}) - keys.keys()
        if len(self._absent_kids) > MAX_REMEMBERED_KIDS:
            self._absent_kids.clear()

    def _answer(self, kid: str) -> RSAPublicKey:
        if self._has(kid):
            return self._keys[kid]
        if self._has_answered_for(kid):
            raise _unknown_key()
        if isinstance(self._failure, ClerkMisconfigured):
            raise ClerkMisconfigured(self._failure.message, trace_id=self._failure.trace_id)
        raise SigningKeysUnavailable(
            "Session tokens cannot be verified: Clerk's signing keys could not be fetched. Nothing was "
            "done. Try again later.",
            retry_after=max(1.0, self._seconds_to_next_fetch()),
        ) from self._failure

    def _has(self, kid: str) -> bool:
        return kid in self._keys and self._age() < STALE_SECONDS

    def _has_answered_for(self, kid: str) -> bool:
        if self._age() >= STALE_SECONDS:
            return False
        return kid in self._absent_kids or (self._failure is None and not self._fetching)

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _seconds_to_next_fetch(self) -> float:
        return self._attempted_at + FETCH_INTERVAL_SECONDS - self._clock()


def _usable_keys(jwks: Iterable[Mapping[str, Any]]) -> dict[str, RSAPublicKey]:
    """The RSA keys of the set by key id; whatever else Clerk publishes there is passed over."""
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
        "The session token is signed with a key that Clerk does not have for this application. Sign in "
        "again; if that does not help, the application and this server use different Clerk instances.",
        code="jwk_kid_mismatch",
    )


def _bad_jwt_key() -> ClerkMisconfigured:
    return ClerkMisconfigured(
        "CLERK_JWT_KEY is not the PEM public key of an RSA key pair. Copy it again from Clerk's "
        "dashboard (API keys, JWKS public key), or unset it to have the keys fetched."
    )


_sets: dict[tuple[str, str], JwksKeys] = {}


def _jwks() -> JwksKeys:
    """The set of the instance that the settings name now."""
    source = (clerk_settings.api_url, clerk_settings.secret_key)
    # setdefault keeps one object when two threads come first at once: only that one ever fetches.
    return _sets.get(source) or _sets.setdefault(source, JwksKeys())


@receiver(setting_changed)
def forget_keys(*, setting: str, **kwargs: object) -> None:
    """Start over when a test changes where the keys come from."""
    if setting in {"CLERK_API_URL", "CLERK_SECRET_KEY", "CLERK_JWT_KEY"}:
        _sets.clear()


# A lock that another thread held at the moment of the fork stays locked in the child for ever.
os.register_at_fork(after_in_child=_sets.clear)
