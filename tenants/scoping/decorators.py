"""Decorators for plain Django views, sync and async, behind TenantMiddleware."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse

from tenants.scoping.requests import scope_of

View = TypeVar("View", bound=Callable[..., Any])
Check = Callable[[HttpRequest], HttpResponse | None]


def tenant_required(view: View) -> View:
    """Answer 401 without a valid session token, and 404 without a current tenant."""
    return _guarded(view, _refusal)


def org_role_required(role: str) -> Callable[[View], View]:
    """Answer as `tenant_required` does, and 403 unless the user has the role, such as `org:billing`."""

    def check(request: HttpRequest) -> HttpResponse | None:
        refused = _refusal(request)
        scope = scope_of(request)
        if refused is None and not (scope and scope.user and scope.user.has(role=role)):
            raise PermissionDenied
        return refused

    return lambda view: _guarded(view, check)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    scope = scope_of(request)
    if scope is None or scope.user is None:
        return HttpResponse(
            "Send a valid Clerk session token: `Authorization: Bearer <session token>`.\n",
            status=401,
            content_type="text/plain",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if scope.tenant is None:
        raise Http404("There is no current tenant.")
    return None


def _guarded(view: View, check: Check) -> View:
    if iscoroutinefunction(view):

        @wraps(view)
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return check(request) or await view(request, *args, **kwargs)

        return cast(View, guarded_async)

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return check(request) or view(request, *args, **kwargs)

    return cast(View, guarded)
