"""The current tenant, kept in a context variable: each thread, task and async request has its own.

Requests do not reset the variable with a `with` block, because a streamed response is rendered after the view
and its middleware have returned. `enter_request` and `leave_request` receive Django's signals instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from tenants.models import Tenant
from tenants.scoping.exceptions import NoCurrentTenant


class Scope(Protocol):
    """Something that has a current tenant, or none."""

    is_disabled: bool

    @property
    def tenant(self) -> Tenant | None: ...

    @property
    def known_tenant(self) -> Tenant | None: ...


class FixedScope:
    """The scope of a `with` block: the tenant that the block names, none, or the rows of all tenants."""

    def __init__(self, tenant: Tenant | None, *, is_disabled: bool = False) -> None:
        self.tenant = self.known_tenant = tenant
        self.is_disabled = is_disabled


class RequestFrame:
    """The scope of a web request; `scope` is set when the request is authenticated.

    `outer` is the scope in which the request was made, for example by a test.
    """

    is_disabled = False

    def __init__(self, outer: Scope | None) -> None:
        self.outer = outer
        self.scope: Scope | None = None

    @property
    def tenant(self) -> Tenant | None:
        """The tenant of the authenticated request."""
        return None if self.scope is None else self.scope.tenant

    @property
    def known_tenant(self) -> Tenant | None:
        """The tenant, if it is determined already."""
        return None if self.scope is None else self.scope.known_tenant


_scope: ContextVar[Scope | None] = ContextVar("tenant_scope", default=None)


def current_tenant() -> Tenant | None:
    """Return the current tenant; None without one and inside `scopes_disabled`.

    In a web request, the first call determines the tenant. Raise TenantUnavailable if Clerk must be asked
    for the organization of the token and cannot be asked.
    """
    scope = _scope.get()
    return None if scope is None else scope.tenant


def require_tenant() -> Tenant:
    """Return the current tenant; raise NoCurrentTenant without one."""
    tenant = current_tenant()
    if tenant is None:
        raise NoCurrentTenant(
            "There is no current tenant, so nothing was read or written. In a request, authenticate with "
            "ClerkSessionAuthentication or install TenantMiddleware; elsewhere use `with "
            "tenant_context(tenant):`, or `with scopes_disabled():` to work with the rows of all tenants."
        )
    return tenant


@contextmanager
def tenant_context(tenant: Tenant) -> Iterator[Tenant]:
    """Make `tenant` the current tenant in the block."""
    with _entered(FixedScope(tenant)):
        yield tenant


@contextmanager
def scopes_disabled() -> Iterator[None]:
    """Let scoped managers work with the rows of all tenants in the block, which has no current tenant."""
    with _entered(FixedScope(None, is_disabled=True)):
        yield


def are_scopes_disabled() -> bool:
    """Return whether the code runs inside `scopes_disabled`."""
    scope = _scope.get()
    return scope is not None and scope.is_disabled


def known_tenant() -> Tenant | None:
    """Return the current tenant if it is determined already; send no statement."""
    scope = _scope.get()
    return None if scope is None else scope.known_tenant


def enter_request(**_: Any) -> None:
    """Begin a request without a current tenant; a receiver of `request_started`."""
    _scope.set(RequestFrame(outer=_scope.get()))


def leave_request(**_: Any) -> None:
    """Restore the scope that the request began in; a receiver of `request_finished`."""
    frame = _scope.get()
    if isinstance(frame, RequestFrame):
        _scope.set(frame.outer)


def set_request_scope(scope: Scope) -> None:
    """Make `scope` the scope of the current web request."""
    frame = _scope.get()
    if isinstance(frame, RequestFrame):
        frame.scope = scope
    else:  # The view was called without a web server, for example with a request of RequestFactory.
        _scope.set(scope)


def forget_scope() -> None:
    """Leave all scopes, for the beginning of a test."""
    _scope.set(None)


@contextmanager
def _entered(scope: Scope) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)
