"""DRF permissions for views that work for the current tenant.

DRF imports this module while it defines its views, if a project names a permission in
DEFAULT_PERMISSION_CLASSES. This module must therefore not import `rest_framework.views`.
"""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

from tenants.scoping.exceptions import TenantNotFound
from tenants.scoping.users import TenantUser, is_org_admin


class IsTenantMember(IsAuthenticated):
    """Admits active members of the request's tenant; raises TenantNotFound (404) without a tenant."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return False without a user, so that DRF answers 401."""
        if not super().has_permission(request, view):
            return False
        if request.tenant is None:  # type: ignore[attr-defined]  # set by our authentication
            raise TenantNotFound
        return True


class IsTenantAdmin(IsTenantMember):
    """Admits admins of the request's tenant, by the stored membership."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the stored membership is an admin's."""
        return super().has_permission(request, view) and is_org_admin(request.membership)  # type: ignore[attr-defined]


class HasOrgRole(IsTenantMember):
    """Admits members with a role: `permission_classes = [HasOrgRole("org:billing")]`."""

    def __init__(self, role: str) -> None:
        self._role = role

    def __call__(self) -> HasOrgRole:
        """Return the permission itself: DRF calls each element of `permission_classes`."""
        return self

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the user has the role."""
        return super().has_permission(request, view) and _user(request).has(role=self._role)


class HasOrgPermission(IsTenantMember):
    """Admits members with a custom permission: `[HasOrgPermission("org:invoices:create")]`."""

    def __init__(self, permission: str) -> None:
        self._permission = permission

    def __call__(self) -> HasOrgPermission:
        """Return the permission itself: DRF calls each element of `permission_classes`."""
        return self

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the session token grants the permission."""
        return super().has_permission(request, view) and _user(request).has(permission=self._permission)


def _user(request: Request) -> TenantUser:
    user = request.user
    assert isinstance(user, TenantUser)  # noqa: S101  (only such a user has a tenant)
    return user
