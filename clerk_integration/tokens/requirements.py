"""Requirements that a verified session token must meet at each request: the time and the settings."""

import time

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import SessionTokenError
from clerk_integration.tokens.verified import VerifiedToken


def check_session_token(token: VerifiedToken) -> None:
    """Raise SessionTokenError unless the token is valid now, and for this server's settings."""
    required = clerk_settings.session_tokens
    now = time.time()
    if token.expires_at <= now - required.clock_skew_seconds:
        raise SessionTokenError(
            "The session token has expired. Session tokens are valid for a minute: ask Clerk for a new one "
            "(getToken()) for every request.",
            code="token_expired",
        )
    if token.not_before > now + required.clock_skew_seconds:
        raise SessionTokenError(
            "The session token is not valid yet. Check the clock of the machine that verifies it.",
            code="token_not_active_yet",
        )
    if required.issuer and token.issuer != required.issuer.rstrip("/"):
        raise SessionTokenError(
            "The session token was issued by another Clerk instance than the one this server trusts.",
            code="token_invalid_issuer",
        )
    if required.authorized_parties and token.authorized_party not in required.authorized_parties:
        raise _wrong_authorized_party(token.authorized_party)
    if required.audience and required.audience.isdisjoint(token.audience):
        raise SessionTokenError(
            "The session token has no audience (`aud`) that is in this server's setting CLERK_AUDIENCE. Add "
            "it to the session token in Clerk's dashboard under Sessions.",
            code="token_invalid_audience",
        )


def _wrong_authorized_party(party: str | None) -> SessionTokenError:
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
    return SessionTokenError(message, code="token_invalid_authorized_parties")
