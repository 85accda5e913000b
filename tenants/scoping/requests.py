"""The tenant of a web request, determined when it is first needed."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from django.http import HttpRequest

from clerk_integration.log_context import add_to_log
from clerk_integration.tokens.clerk_user import ClerkUser
from tenants.models import Membership, Tenant
from tenants.scoping.context import set_request_scope
from tenants.scoping.exceptions import TenantUnavailable
from tenants.scoping.users import TenantUser

TENANT_HEADER = "X-Tenant-Id"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_ATTRIBUTE = "_tenant_scope"


class RequestScope:
    """The user and the tenant of a request.

    `authenticate` returns the user of the request's session token, or None.
    """

    is_disabled = False

    def __init__(self, request: HttpRequest, authenticate: Callable[[], ClerkUser | None]) -> None:
        self._header = request.headers.get(TENANT_HEADER)
        self._authenticate = authenticate
        self.is_write = request.method not in SAFE_METHODS

    @cached_property
    def user(self) -> TenantUser | None:
        """The user of the session token."""
        user = self._authenticate()
        return None if user is None else TenantUser.of(user, self)

    @property
    def membership(self) -> Membership | None:
        """The user's active membership of the active tenant that the request is for; None without one.

        Raise TenantUnavailable if Clerk must be asked for it and cannot be asked.
        """
        if isinstance(self._found, TenantUnavailable):
            raise self._found
        return self._found

    @property
    def tenant(self) -> Tenant | None:
        """The tenant that the request is for."""
        return None if self.membership is None else self.membership.tenant

    @property
    def known_tenant(self) -> Tenant | None:
        """The tenant, if it is determined already."""
        found = self.__dict__.get("_found")
        return found.tenant if isinstance(found, Membership) else None

    @cached_property
    def _found(self) -> Membership | TenantUnavailable | None:
        if self.user is None:
            return None
        from tenants.scoping.resolution import find_membership  # noqa: PLC0415  (every command imports this)

        try:
            return find_membership(self.user, header=self._header, is_write=self.is_write)
        except TenantUnavailable as error:
            return error

    def load(self) -> None:
        """Determine user and tenant now."""
        self._found  # noqa: B018  (computes the property)


class ScopeAttribute:
    """An attribute of all requests, `tenant` or `membership`: None if the request was not authenticated.

    A project that sets an attribute of the same name on its requests hides this one.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, request: HttpRequest | None, owner: type[HttpRequest]) -> Any:
        scope = None if request is None else scope_of(request)
        return None if scope is None else getattr(scope, self._name)


def install_attributes() -> None:
    """Give all requests the attributes `tenant` and `membership`."""
    for name in ("tenant", "membership"):
        setattr(HttpRequest, name, ScopeAttribute(name))


def scope_of(request: HttpRequest) -> RequestScope | None:
    """Return the scope of a request; None if it was not authenticated."""
    scope: RequestScope | None = request.__dict__.get(_ATTRIBUTE)
    return scope


def scope_request(request: HttpRequest, authenticate: Callable[[], ClerkUser | None]) -> RequestScope:
    """Make the tenant of the request the current tenant, and return its scope."""
    scope = RequestScope(request, authenticate)
    request.__dict__[_ATTRIBUTE] = scope
    set_request_scope(scope)
    return scope


def tenant_user(request: HttpRequest, user: ClerkUser) -> TenantUser:
    """Return the user of the request, which is authenticated as `user`, and scope the request.

    Keeps the scope that TenantMiddleware has set for the same user: it may know the tenant already.
    """
    scope = scope_of(request)
    if scope is None or scope.user is None or not scope.user.is_same(user):
        scope = scope_request(request, lambda: user)
    set_request_scope(scope)
    add_to_log(organization=user.organization_id)
    return scope.user  # type: ignore[return-value]  # a scope with this user
