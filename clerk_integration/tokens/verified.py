"""Session tokens and API keys that were verified, kept in memory so that their next request is faster.

A signature and the form of the claims stay valid. Everything that time, settings or Clerk's keys can change
is checked for each request, by `check_session_token` and by comparing the signing key.
"""

import os
import threading
import time
from typing import Generic, NamedTuple, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from clerk_integration.tokens.clerk_user import ClerkUser

MAX_TOKENS = 4096
"""Tokens that a process keeps; each takes about 1 KiB."""


class VerifiedToken(NamedTuple):
    """The contents of a verified session token. `key` is the key that verified the signature."""

    kid: str | None
    key: RSAPublicKey
    user: ClerkUser
    expires_at: int
    not_before: int
    issuer: str
    authorized_party: str | None
    audience: tuple[str, ...]


class Expiring(Protocol):
    """What can be kept until a time."""

    @property
    def expires_at(self) -> float:
        """The time, in seconds since 1970."""


Token = TypeVar("Token", bound=Expiring)


class Verified(Generic[Token]):
    """At most `size` verified tokens, by the digest of the token; thread-safe.

    Tokens are dropped in the order in which they were added, as soon as they have expired or there are too
    many. Tokens of one session live equally long, so this is also the order in which they expire.
    """

    def __init__(self, size: int = MAX_TOKENS) -> None:
        self._size = size
        self.clear()

    def clear(self) -> None:
        """Forget all tokens, and in a forked child the lock, which a missing thread may hold."""
        self._lock = threading.Lock()
        self._tokens: dict[bytes, Token] = {}

    def get(self, digest: bytes) -> Token | None:
        """Return the token with this digest, or None if it is not kept."""
        return self._tokens.get(digest)

    def add(self, digest: bytes, token: Token) -> None:
        """Keep the token until it expires; make room first."""
        now = time.time()
        with self._lock:
            while self._tokens:
                oldest = next(iter(self._tokens))
                if len(self._tokens) < self._size and self._tokens[oldest].expires_at > now:
                    break
                del self._tokens[oldest]
            self._tokens[digest] = token

    def __len__(self) -> int:
        return len(self._tokens)


verified_tokens = Verified[VerifiedToken]()
os.register_at_fork(after_in_child=verified_tokens.clear)
