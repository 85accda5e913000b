"""Clerk's session tokens, verified statelessly: token in, user out, no row, no query.

The SDK's `authenticate_request` is not used. It takes pending sessions, JWT-template tokens, OAuth
access tokens and machine tokens for signed-in users, reads cookies, does not look at `iss`, `exp` or
`sub` being there, spells roles differently from the Backend API, fetches a key anew for every forged
key id, and when Clerk cannot be reached it may hold a worker for most of an hour and then say
"signed out". What remains useful of it is one PyJWT call, which is made here.

What a token must be: signed with RS256 by a key of our Clerk instance, in time (5 seconds of clock
skew are forgiven, as in Clerk's own SDKs), of the session class, with `exp`, `sub` (a user) and
`sid`, without `aud` (only templates set it), from CLERK_ISSUER when that is set (a trailing slash on
either side does not count), and with an `azp` from CLERK_AUTHORIZED_PARTIES when that is set (compared
exactly; a missing `azp` is refused then). A token names one active organization and stays valid up to
its `exp`, 60 seconds by default, even if the membership has ended meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
LEEWAY_SECONDS = 5
MAX_TOKEN_BYTES = 16 * 1024

SESSION_CATEGORY = "cl_B7d4PD111AAA"
"""Value of the `cat` header of session tokens, as Clerk's JavaScript SDK knows it."""

IGNORED_CATEGORY = "cl_I7d4PD111III"
"""A `cat` that says nothing about the class of the token (same source)."""

PENDING = "pending"
SESSION_STATUSES = (None, "active", PENDING)
VERSIONS = (None, 1, 2)

_REFUSALS: tuple[tuple[type[jwt.PyJWTError], str, str], ...] = (
    (
        jwt.ExpiredSignatureError,
        "token_expired",
        "The session token has expired. Session tokens live for a minute: ask Clerk for a new one "
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
    """The bearer of a session token, as `request.user`: what the token says, and nothing else.

    It has no row and no Django permissions; what it may do is decided by its memberships. `pk` is
    Clerk's user id, so that throttles and logs tell users apart. The `organization_*` attributes
    describe the organization that is active in the session, if any.
    """

    clerk_user_id: str
    session_id: str
    organization_id: str | None = None
    organization_role: str | None = None
    organization_slug: str | None = None
    organization_permissions: frozenset[str] = frozenset()
    is_pending: bool = False

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
    """Return the user whom this session token signs in.

    Reads no database. Calls Clerk at most for its signing keys, under the rules of `signing_keys`.
    Raises SessionTokenError with a `code` for a token that is refused, SessionPending for a pending
    session unless `admit_pending`, SigningKeysUnavailable or ClerkMisconfigured when the token
    cannot be verified for reasons that are not the bearer's.
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
    """The token's header, once it is that of a session token; nothing is verified yet."""
    if not token.isascii() or len(token) > MAX_TOKEN_BYTES:
        raise invalid_token("it is longer than 16 KiB or holds characters that no token has")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as exc:
        raise _refusal(exc) from exc
    # Here already, so that no key is fetched for it.
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
            leeway=LEEWAY_SECONDS,
            # `aud` and `iss` have rules of their own, in `_check_claims`.
            options={"require": ["exp", "sub", "sid"], "verify_aud": False, "verify_iss": False},
        )
    except jwt.PyJWTError as exc:
        raise _refusal(exc) from exc


def _check_claims(claims: Mapping[str, Any]) -> None:
    if claims.get("aud") or claims.get("v") not in VERSIONS:
        raise wrong_token_type()
    if claims.get("sts") not in SESSION_STATUSES:
        raise invalid_token("its `sts` is none that is known")
    issuer = clerk_settings.issuer.rstrip("/")
    if issuer and (text_claim(claims, "iss") or "").rstrip("/") != issuer:
        raise SessionTokenError(
            "The session token was issued by another Clerk instance than the one this server trusts.",
            code="token_invalid_issuer",
        )
    parties = clerk_settings.authorized_parties
    if parties and text_claim(claims, "azp") not in parties:
        raise SessionTokenError(
            "The session token was made for an origin (`azp`) that this server does not admit.",
            code="token_invalid_authorized_parties",
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
    )


def _refusal(exc: jwt.PyJWTError) -> SessionTokenError:
    for error, code, message in _REFUSALS:
        if isinstance(exc, error):
            return SessionTokenError(message, code=code)
    return invalid_token("it is no JSON Web Token of Clerk's, or a required claim is missing or odd")
