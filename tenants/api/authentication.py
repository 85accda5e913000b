"""Authenticate API requests by a Clerk session token, or staff by Django's session.

DRF imports this module while it defines its views, so this module must not import `rest_framework.views`.
"""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from clerk_integration.conf import MAX_TOKEN_BYTES, clerk_settings
from clerk_integration.exceptions import ClerkError, SessionPending, SessionTokenError
from clerk_integration.tokens.clerk_user import ClerkUser
from tenants.api.errors import read_failure
from tenants.scoping.requests import tenant_user

MAX_HEADER_BYTES = MAX_TOKEN_BYTES + len("Bearer ")

PENDING_HINT = "Operators can admit pending sessions here with CLERK_PENDING_SESSIONS=create."


class ClerkSessionAuthentication(BaseAuthentication):
    """Authenticates `Authorization: Bearer <Clerk session token>` as a ClerkUser; reads no cookie.

    If CLERK_ACCEPT_API_KEYS is on, the token may be one of Clerk's API keys instead. A refused token ends the
    request with 401, even if the request has a valid staff session. A pending session is admitted if the view
    has `admits_pending_sessions = True` and CLERK_PENDING_SESSIONS is `create`. Answers 503 while Clerk must
    be asked for signing keys or about an API key, and cannot be asked.
    """

    def authenticate(self, request: Request) -> tuple[ClerkUser, None] | None:
        """Return the token's user, or None if the request carries no bearer token.

        Also sets `request.tenant` and `request.membership`, which are looked up when a view needs them.
        """
        token = _bearer_token(request)
        if token is None:
            return None
        # `manage.py check` imports this module. It needs neither PyJWT nor cryptography.
        from clerk_integration.tokens.bearer import authenticate_bearer  # noqa: PLC0415

        view = (request.parser_context or {}).get("view")
        may_be_pending = bool(getattr(view, "admits_pending_sessions", False))
        try:
            user = authenticate_bearer(
                token, admit_pending=may_be_pending and clerk_settings.pending_sessions == "create"
            )
        except SessionPending as exc:
            hint = f" {PENDING_HINT}" if may_be_pending else ""
            raise AuthenticationFailed(f"{exc.message}{hint}", code=exc.code) from exc
        except SessionTokenError as exc:
            raise AuthenticationFailed(exc.message, code=exc.code) from exc
        except ClerkError as exc:
            raise read_failure(exc) from exc
        return tenant_user(request._request, user), None

    def authenticate_header(self, request: Request) -> str:
        """Return the WWW-Authenticate challenge; with one, DRF answers 401 instead of 403."""
        return "Bearer"


class StaffSessionAuthentication(SessionAuthentication):
    """Authenticates staff by Django's session, with CSRF protection; other Django users are not signed in."""

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser, Any] | None:
        """Return the session's user if active and staff; None otherwise."""
        user = getattr(request._request, "user", None)
        return super().authenticate(request) if _is_staff(user) else None


def _is_staff(user: Any) -> bool:
    """Return whether the user is staff and has permissions; a project's user model may have neither."""
    return bool(getattr(user, "is_staff", False)) and hasattr(user, "has_perm")


def _bearer_token(request: Request) -> str | None:
    header = get_authorization_header(request)
    parts = header.split()
    if not parts or parts[0].lower() != b"bearer":
        return None
    if len(parts) != 2 or len(header) > MAX_HEADER_BYTES or not header.isascii():  # noqa: PLR2004
        raise AuthenticationFailed(
            "The Authorization header is malformed. Send `Authorization: Bearer <session token>`: one "
            "token, in ASCII, of at most 16 KiB.",
            code="authorization_header_format_invalid",
        )
    return parts[1].decode("ascii")
