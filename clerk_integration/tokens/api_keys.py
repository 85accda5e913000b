"""API keys of machine clients (`ak_...`): Clerk verifies them, and the result is kept for ten seconds.

A key acts for the user that it belongs to, with the scopes of the key as permissions. Keys of organizations
and machines are refused, because their requests have no user whose memberships decide what they may do.
A revoked key is therefore refused after ten seconds at the latest.

Each verification is a request to Clerk at the pace that creations and batches share. Unknown keys can
therefore not use up the limit of the requests that list tenants. Creations may wait longer for the pace, so
unknown keys do not stop them either.
"""

import os
import re
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from clerk_integration.conf import clerk_settings
from clerk_integration.entities import normalise_role
from clerk_integration.exceptions import (
    ClerkNotFound,
    ClerkProtocolError,
    ClerkRejected,
    SessionTokenError,
)
from clerk_integration.tokens.clerk_user import ClerkUser
from clerk_integration.tokens.verified import Verified
from clerk_integration.wire.client import read
from clerk_integration.wire.ids import USER, is_id
from clerk_integration.wire.pace import take_slots

PREFIX = "ak_"
MAX_KEYS = 1024
KEPT_SECONDS = 10.0
"""How long a verification is used, so that a revoked key is refused soon."""

MAX_WAIT_SECONDS = 0.5
"""The longest wait for the shared pace; half that of a creation, so that creations take precedence."""

_SECRET = re.compile(r"ak_[A-Za-z0-9_-]{16,252}", re.ASCII)

_REFUSALS = {
    "api_key_invalid": "Clerk does not know this API key.",
    "api_key_revoked": "The API key was revoked. Use another one.",
    "api_key_expired": "The API key has expired. Use another one.",
    "api_key_subject_not_supported": "The API key belongs to no user. Create one for a user instead.",
}


class VerifiedKey(NamedTuple):
    """Clerk's answer about a key: its user, or the code of the refusal. Times are in seconds since 1970."""

    verified_at: float
    user: ClerkUser | None = None
    refusal: str = ""
    valid_until: float = float("inf")

    @property
    def expires_at(self) -> float:
        """The time until which the answer is kept."""
        return self.verified_at + KEPT_SECONDS

    def is_current(self, now: float) -> bool:
        """Return whether the answer may be used now; false after the clock was set back."""
        return self.verified_at <= now < self.expires_at


verified_keys = Verified[VerifiedKey](MAX_KEYS)
os.register_at_fork(after_in_child=verified_keys.clear)


def authenticate_api_key(secret: str) -> ClerkUser:
    """Return the user of the API key.

    Sends one read to Clerk unless the key was verified in the last ten seconds. Raises SessionTokenError with
    a `code` for a key that is refused, and ClerkError if Clerk cannot be asked.
    """
    if not _SECRET.fullmatch(secret):
        raise _refused("api_key_invalid")
    source = f"{clerk_settings.api_url} {clerk_settings.secret_key} {secret}"
    digest, now = sha256(source.encode()).digest(), time.time()
    key = verified_keys.get(digest)
    if key is None or not key.is_current(now):
        key = _verify(secret, now)
        verified_keys.add(digest, key)
    if key.user is None:
        raise _refused(key.refusal)
    if key.valid_until <= now:
        raise _refused("api_key_expired")
    return key.user


def _verify(secret: str, now: float) -> VerifiedKey:
    """Ask Clerk for the key."""
    take_slots(1, max_wait=MAX_WAIT_SECONDS)
    try:
        record = read(lambda clerk: clerk.api_keys.verify_api_key(secret=secret)).json()
    except (ClerkNotFound, ClerkRejected):
        return VerifiedKey(now, refusal="api_key_invalid")
    if not isinstance(record, Mapping):
        raise ClerkProtocolError("Clerk's reply about an API key is not a JSON object.")
    return _read_key(record, now)


def _read_key(record: Mapping[str, Any], now: float) -> VerifiedKey:
    """Return the key of Clerk's reply; refuse it unless the reply says that it is valid."""
    if record.get("revoked") is not False:
        return VerifiedKey(now, refusal="api_key_revoked")
    if record.get("expired") is not False:
        return VerifiedKey(now, refusal="api_key_expired")
    if not is_id(record.get("subject"), USER):
        return VerifiedKey(now, refusal="api_key_subject_not_supported")
    scopes, expiration = record.get("scopes"), record.get("expiration")
    if not isinstance(scopes, list) or not isinstance(expiration, int | float | None):
        raise ClerkProtocolError("Clerk's reply about an API key has no scopes, or a malformed expiration.")
    user = ClerkUser(
        clerk_user_id=str(record["subject"]),
        session_id="",
        organization_permissions=frozenset(
            normalise_role(scope) for scope in scopes if isinstance(scope, str)
        ),
        api_key_id=str(record.get("id")),
    )
    return VerifiedKey(now, user, valid_until=float("inf") if expiration is None else expiration / 1000)


def _refused(code: str) -> SessionTokenError:
    return SessionTokenError(_REFUSALS[code], code=code)
