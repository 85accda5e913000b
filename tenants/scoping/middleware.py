"""Middleware that gives plain Django views the user and the tenant of a Clerk session token."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

from clerk_integration.exceptions import ClerkError, SessionTokenError
from clerk_integration.tokens.bearer import authenticate_bearer
from clerk_integration.tokens.clerk_user import ClerkUser
from tenants.scoping.exceptions import TenantUnavailable
from tenants.scoping.requests import scope_of, scope_request

BEARER = "bearer"


class TenantMiddleware(MiddlewareMixin):
    """Sets `request.tenant` and `request.membership` by the request's session token.

    If the token is valid, `request.user` is its user, else the user that AuthenticationMiddleware has set,
    which must come first. The token is verified and the tenant is looked up when a view needs them; before
    the view if it is async and may not query the database, or if ATOMIC_REQUESTS runs it in a transaction,
    which may not wait for Clerk.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Attach the user and the tenant of the session token to the request, without looking them up yet."""
        scope = scope_request(request, lambda: _token_user(request))
        if hasattr(request, "user"):
            earlier = request.user
            request.user = SimpleLazyObject(lambda: scope.user or earlier)  # type: ignore[assignment]

    def process_view(self, request: HttpRequest, view: Callable[..., Any], *_: Any) -> None:
        """Look up the tenant now if the view itself may not wait for the database or for Clerk."""
        scope = scope_of(request)
        if scope is not None and (iscoroutinefunction(view) or _is_atomic(view)):
            scope.load()

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 if the tenant cannot be determined because Clerk cannot be asked."""
        if not isinstance(exception, TenantUnavailable):
            return None
        return HttpResponse(
            f"{exception.detail}\n",
            status=exception.status_code,
            content_type="text/plain",
            headers={"Retry-After": str(exception.wait)},
        )


def _is_atomic(view: Callable[..., Any]) -> bool:
    """Return whether Django runs the view in a transaction."""
    excluded: set[str] = getattr(view, "_non_atomic_requests", set())
    databases = connections.settings.items()
    return any(database["ATOMIC_REQUESTS"] and alias not in excluded for alias, database in databases)


def _token_user(request: HttpRequest) -> ClerkUser | None:
    """Return the user of a valid session token; None for any other token, which may be for another view."""
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != BEARER or not token:
        return None
    try:
        return authenticate_bearer(token.strip())
    except SessionTokenError:
        return None
    except ClerkError as error:
        raise TenantUnavailable from error
