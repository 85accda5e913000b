"""Verification of Clerk's session tokens, without a database query.

The SDK's `authenticate_request` is not used. It accepts pending sessions, tokens of JWT templates, OAuth
access tokens and machine tokens. It does not check `iss` or whether `exp` and `sub` are there. It fetches a
key for every forged key id, and may block a worker for most of an hour while Clerk is down.

| part | a session token must have |
| --- | --- |
| signature | RS256, by a key of our Clerk instance |
| header `cat`, `typ` | the category of session tokens, or none; `JWT`, or none |
| `exp`, `nbf`, `iat` | the current time between them, with CLERK_CLOCK_SKEW_SECONDS of tolerance |
| `sub`, `sid` | a user and a session; template, machine and OAuth tokens lack one of them |
| `sts`, `v` | a status and a version that this module knows |
| `iss` | if CLERK_ISSUER is set: its value; a slash at the end does not count |
| `azp` | if CLERK_AUTHORIZED_PARTIES is set: exactly one of its values |
| `aud` | if CLERK_AUDIENCE is set: one of its values |

A token names one active organization. The token stays valid until its `exp`, 60 seconds by default, even if
the membership has ended in the meantime.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jwt

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import SessionPending, SessionTokenError
from clerk_integration.tokens.claims import (
    active_organization,
    invalid_token,
    required_text_claim,
    text_claim,
    user_id_claim,
    wrong_token_type,
)
from clerk_integration.tokens.signing_keys import get_signing_key

ALGORITHM = "RS256"
MAX_TOKEN_BYTES = 16 * 1024

SESSION_CATEGORY = "cl_B7d4PD111AAA"
"""Value of the `cat` header of session tokens, from Clerk's JavaScript SDK."""

IGNORED_CATEGORY = "cl_I7d4PD111III"
"""A `cat` that says nothing about the category of the token (same source)."""

PENDING = "pending"
SESSION_STATUSES = (None, "active", PENDING)
VERSIONS = (None, 1, 2)

_REFUSALS: tuple[tuple[type[jwt.PyJWTError], str, str], ...] = (
    (
        jwt.ExpiredSignatureError,
        "token_expired",
        "The session token has expired. Session tokens are valid for a minute: ask Clerk for a new one "
        "(getToken()) for every request.",
    ),
    (
        jwt.ImmatureSignatureError,
        "token_not_active_yet",
        "The session token is not valid yet. Check the clock of the machine that verifies it.",
    ),
    (jwt.InvalidSignatureError, "token_invalid_signature", "The session token's signature does not match."),
    (jwt.InvalidAlgorithmError, "token_invalid_algorithm", "The session token is not signed with RS256."),
)


@dataclass(frozen=True, slots=True)
class ClerkUser:
    """The user of a session token, as `request.user`. It holds the token's claims, and nothing else.

    It has no row and no Django permissions. Its memberships decide what the user may do. `pk` is Clerk's user
    id, so that throttles and logs distinguish users. The `organization_*` attributes describe the active
    organization of the session, if there is one.
    """

    clerk_user_id: str
    session_id: str
    organization_id: str | None = None
    organization_role: str | None = None
    organization_slug: str | None = None
    organization_permissions: frozenset[str] = frozenset()
    is_pending: bool = False
    issued_at: float = field(default=0.0, compare=False)

    is_authenticated: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False
    is_active: ClassVar[bool] = True
    is_staff: ClassVar[bool] = False
    is_superuser: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.clerk_user_id

    @property
    def pk(self) -> str:
        """Clerk's user id."""
        return self.clerk_user_id

    @property
    def id(self) -> str:
        """Clerk's user id."""
        return self.clerk_user_id

    def get_username(self) -> str:
        """Return Clerk's user id."""
        return self.clerk_user_id

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Return False: Django's permissions are for staff with a Django account."""
        return False

    def has_perms(self, perm_list: object, obj: object = None) -> bool:
        """Return False, as `has_perm` does."""
        return False

    def has_module_perms(self, app_label: str) -> bool:
        """Return False, as `has_perm` does."""
        return False


def authenticate_session_token(token: str, *, admit_pending: bool = False) -> ClerkUser:
    """Return the user of the session token.

    Calls Clerk only to fetch signing keys. Raises SessionTokenError with a `code` for a token that is
    refused, and SessionPending for a pending session unless `admit_pending`. Raises SigningKeysUnavailable or
    ClerkMisconfigured if the token cannot be verified through no fault of the client.
    """
    header = _header(token)
    claims = _verified_claims(token, header.get("kid"))
    _check_claims(claims)
    user = _user(claims)
    if user.is_pending and not admit_pending:
        raise SessionPending(
            "The session is pending: the user has a task to finish in Clerk first, such as choosing or "
            "creating an organization. Finish it in the application, then send a new session token.",
            code="session_pending",
        )
    return user


def _header(token: str) -> Mapping[str, Any]:
    """Return the unverified header; raise SessionTokenError if a session token cannot have this header."""
    if not token.isascii() or len(token) > MAX_TOKEN_BYTES:
        raise invalid_token("it is longer than 16 KiB or holds characters that are not in a token")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as exc:
        raise _refusal(exc) from exc
    # Check the header before the signature, so that a token of another kind causes no fetch of keys.
    if header.get("alg") != ALGORITHM:
        raise _refusal(jwt.InvalidAlgorithmError())
    # `at+jwt` marks OAuth access tokens, which Clerk signs with the same keys.
    if header.get("typ", "JWT") != "JWT":
        raise wrong_token_type()
    if header.get("cat", SESSION_CATEGORY) not in (SESSION_CATEGORY, IGNORED_CATEGORY):
        raise wrong_token_type()
    return header


def _verified_claims(token: str, kid: str | None) -> Mapping[str, Any]:
    key = get_signing_key(kid)
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            leeway=clerk_settings.clock_skew_seconds,
            # `_check_claims` checks `aud` and `iss`.
            options={"require": ["exp", "sub", "sid"], "verify_aud": False, "verify_iss": False},
        )
    except jwt.PyJWTError as exc:
        raise _refusal(exc) from exc


def _check_claims(claims: Mapping[str, Any]) -> None:
    if claims.get("v") not in VERSIONS:
        raise wrong_token_type()
    if claims.get("sts") not in SESSION_STATUSES:
        raise invalid_token("its `sts` is unknown")
    issuer = clerk_settings.issuer.rstrip("/")
    if issuer and (text_claim(claims, "iss") or "").rstrip("/") != issuer:
        raise SessionTokenError(
            "The session token was issued by another Clerk instance than the one this server trusts.",
            code="token_invalid_issuer",
        )
    _check_authorized_party(text_claim(claims, "azp"))
    _check_audience(claims.get("aud"))


def _check_authorized_party(party: str | None) -> None:
    parties = clerk_settings.authorized_parties
    if not parties or party in parties:
        return
    if party is None:
        message = (
            "The session token names no origin (`azp`), and this server admits only the origins of its "
            "setting CLERK_AUTHORIZED_PARTIES. Clerk sets no `azp` for native apps and for tokens that its "
            "Backend API creates."
        )
    else:
        message = (
            "The session token was made for an origin (`azp`) that is not in this server's setting "
            "CLERK_AUTHORIZED_PARTIES."
        )
    raise SessionTokenError(message, code="token_invalid_authorized_parties")


def _check_audience(audience: object) -> None:
    named = audience if isinstance(audience, list) else [audience]
    if not all(name is None or isinstance(name, str) for name in named):
        raise invalid_token("its `aud` is neither a string nor a list of strings")
    if clerk_settings.audience and clerk_settings.audience.isdisjoint(named):
        raise SessionTokenError(
            "The session token has no audience (`aud`) that is in this server's setting CLERK_AUDIENCE. Add "
            "it to the session token in Clerk's dashboard under Sessions.",
            code="token_invalid_audience",
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
        issued_at=float(claims.get("iat") or 0),
    )


def _refusal(exc: jwt.PyJWTError) -> SessionTokenError:
    if isinstance(exc, jwt.MissingRequiredClaimError) and exc.claim == "sid":
        return wrong_token_type()  # tokens of JWT templates have no `sid`
    for error, code, message in _REFUSALS:
        if isinstance(exc, error):
            return SessionTokenError(message, code=code)
    return invalid_token("it is not a JSON Web Token of Clerk's, or a required claim is missing or malformed")
