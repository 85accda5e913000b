"""Verification of Clerk's session tokens, without a database query.

The SDK's `authenticate_request` is not used. It accepts pending sessions, tokens of JWT templates, OAuth
access tokens and machine tokens. It does not check `iss` or whether `exp` and `sub` are there. It fetches a
key for every forged key id, and may block a worker for most of an hour while Clerk is down.

| part | a session token must have | checked |
| --- | --- | --- |
| signature | RS256, by a key of our Clerk instance | once; again after the keys have changed |
| header `cat`, `typ` | the category of session tokens, or none; `JWT`, or none | once |
| `sub`, `sid` | a user and a session; template, machine and OAuth tokens lack one of them | once |
| `sts`, `v` | a status and a version that this module knows | once |
| `exp`, `nbf`, `iat` | the current time between them, with CLERK_CLOCK_SKEW_SECONDS of tolerance | always |
| `iss` | if CLERK_ISSUER is set: its value; a slash at the end does not count | always |
| `azp` | if CLERK_AUTHORIZED_PARTIES is set: exactly one of its values | always |
| `aud` | if CLERK_AUDIENCE is set: one of its values | always |
| `sts` | not `pending`, unless the caller admits pending sessions | always |

PyJWT's RS256 verifies the signature. PyJWT's `decode` is not used: it looks at each character of the token in
Python, which takes three times as long as the signature, and its checks of the claims are needed again
for each request of a token that is known.

A token names one active organization. The token stays valid until its `exp`, 60 seconds by default, even if
the membership has ended in the meantime.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.utils import base64url_decode, base64url_encode

from clerk_integration.conf import MAX_TOKEN_BYTES
from clerk_integration.exceptions import SessionPending, SessionTokenError
from clerk_integration.tokens.claims import (
    active_organization,
    audience_claim,
    invalid_token,
    required_text_claim,
    text_claim,
    time_claim,
    user_id_claim,
    wrong_token_type,
)
from clerk_integration.tokens.clerk_user import ClerkUser
from clerk_integration.tokens.requirements import check_session_token
from clerk_integration.tokens.signing_keys import get_signing_key
from clerk_integration.tokens.verified import VerifiedToken, verified_tokens

ALGORITHM = "RS256"

SESSION_CATEGORY = "cl_B7d4PD111AAA"
"""Value of the `cat` header of session tokens, from Clerk's JavaScript SDK."""

IGNORED_CATEGORY = "cl_I7d4PD111III"
"""A `cat` that says nothing about the category of the token (same source)."""

PENDING = "pending"
SESSION_STATUSES = (None, "active", PENDING)
VERSIONS = (None, 1, 2)

_rs256 = jwt.get_algorithm_by_name(ALGORITHM)


def authenticate_session_token(token: str, *, admit_pending: bool = False) -> ClerkUser:
    """Return the user of the session token.

    Calls Clerk only to fetch signing keys. Raises SessionTokenError with a `code` for a token that is
    refused, and SessionPending for a pending session unless `admit_pending`. Raises SigningKeysUnavailable or
    ClerkMisconfigured if the token cannot be verified through no fault of the client.
    """
    if not token.isascii() or len(token) > MAX_TOKEN_BYTES:
        raise invalid_token("it is longer than 16 KiB or holds characters that are not in a token")
    digest = sha256(token.encode()).digest()
    known = _known_token(digest)
    verified = known or _verify(token)
    check_session_token(verified)
    if known is None:
        verified_tokens.add(digest, verified)
    if verified.user.is_pending and not admit_pending:
        raise SessionPending(
            "The session is pending: the user has a task to finish in Clerk first, such as choosing or "
            "creating an organization. Finish it in the application, then send a new session token.",
            code="session_pending",
        )
    return verified.user


def _known_token(digest: bytes) -> VerifiedToken | None:
    """Return the token if it was verified before, with the key that must have signed it now."""
    known = verified_tokens.get(digest)
    return known if known is not None and known.key is get_signing_key(known.kid) else None


def _verify(token: str) -> VerifiedToken:
    """Verify the signature, and read the claims; raise SessionTokenError for another kind of token."""
    header, claims, signature = _parts(token)
    kid = _key_id(header)
    key = get_signing_key(kid)
    if not _rs256.verify(f"{header}.{claims}".encode(), key, _decoded(signature)):
        raise SessionTokenError(
            "The session token's signature does not match.", code="token_invalid_signature"
        )
    return _verified_token(_object(claims), kid, key)


def _parts(token: str) -> tuple[str, str, str]:
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004  (header, claims, signature)
        raise _no_token()
    return parts[0], parts[1], parts[2]


def _object(part: str) -> dict[str, Any]:
    """Return the JSON object of a part."""
    try:
        value = json.loads(_decoded(part).decode())
    except (ValueError, RecursionError) as exc:
        raise _no_token() from exc
    if not isinstance(value, dict):
        raise _no_token()
    return value


def _decoded(part: str) -> bytes:
    """Decode base64url; raise SessionTokenError unless `part` is the only encoding of its bytes."""
    try:
        decoded = base64url_decode(part)
    except ValueError as exc:
        raise _no_token() from exc
    if base64url_encode(decoded) != part.encode():
        raise _no_token()
    return decoded


@lru_cache(maxsize=64)  # All tokens that one key signs have the same header.
def _key_id(encoded_header: str) -> str | None:
    """Return the key id in the header; raise SessionTokenError if no session token has such a header.

    Runs before the signature is verified, so that a token of another kind causes no fetch of keys.
    """
    header = _object(encoded_header)
    kid = header.get("kid")
    if "crit" in header or not (kid is None or isinstance(kid, str)):
        raise invalid_token("its header has a `crit`, or a `kid` that is not a string")
    if header.get("alg") != ALGORITHM:
        raise SessionTokenError("The session token is not signed with RS256.", code="token_invalid_algorithm")
    # `at+jwt` marks OAuth access tokens, which Clerk signs with the same keys.
    if header.get("typ", "JWT") != "JWT":
        raise wrong_token_type()
    if header.get("cat", SESSION_CATEGORY) not in (SESSION_CATEGORY, IGNORED_CATEGORY):
        raise wrong_token_type()
    return kid


def _verified_token(claims: Mapping[str, Any], kid: str | None, key: RSAPublicKey) -> VerifiedToken:
    if claims.get("v") not in VERSIONS:
        raise wrong_token_type()
    if claims.get("sts") not in SESSION_STATUSES:
        raise invalid_token("its `sts` is unknown")
    if claims.get("sid") is None:
        raise wrong_token_type()  # Tokens of JWT templates have no `sid`.
    text_claim(claims, "jti")
    user = _user(claims)
    return VerifiedToken(
        kid=kid,
        key=key,
        user=user,
        expires_at=time_claim(claims, "exp"),
        not_before=max(time_claim(claims, "nbf", 0), user.issued_at),
        issuer=(text_claim(claims, "iss") or "").rstrip("/"),
        authorized_party=text_claim(claims, "azp"),
        audience=audience_claim(claims),
    )


def _user(claims: Mapping[str, Any]) -> ClerkUser:
    organization = active_organization(claims)
    return ClerkUser(
        clerk_user_id=user_id_claim(claims),
        session_id=required_text_claim(claims, "sid"),
        organization_id=organization.id,
        organization_role=organization.role,
        organization_slug=organization.slug,
        organization_permissions=organization.permissions,
        is_pending=claims.get("sts") == PENDING,
        issued_at=time_claim(claims, "iat", 0),
    )


def _no_token() -> SessionTokenError:
    return invalid_token("it is not a JSON Web Token of Clerk's")
