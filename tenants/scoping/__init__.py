"""Keep code that builds on this project inside the current tenant: rows, permissions, tasks and raw SQL.

Each name is imported when it is first used. Otherwise a model of a tenant would import DRF's views.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenants.scoping.context import current_tenant, require_tenant, scopes_disabled, tenant_context
    from tenants.scoping.decorators import org_role_required, tenant_required
    from tenants.scoping.exceptions import CrossTenantWrite, NoCurrentTenant, TenantUnavailable
    from tenants.scoping.managers import TenantScopedManager, TenantScopedQuerySet
    from tenants.scoping.models import TenantOwnedModel
    from tenants.scoping.permissions import HasOrgPermission, HasOrgRole, IsTenantAdmin, IsTenantMember
    from tenants.scoping.row_security import EnableTenantRowSecurity
    from tenants.scoping.tasks import carry_tenant
    from tenants.scoping.viewsets import TenantScopedViewSetMixin

_MODULES = {
    "CrossTenantWrite": "exceptions",
    "EnableTenantRowSecurity": "row_security",
    "HasOrgPermission": "permissions",
    "HasOrgRole": "permissions",
    "IsTenantAdmin": "permissions",
    "IsTenantMember": "permissions",
    "NoCurrentTenant": "exceptions",
    "TenantOwnedModel": "models",
    "TenantScopedManager": "managers",
    "TenantScopedQuerySet": "managers",
    "TenantScopedViewSetMixin": "viewsets",
    "TenantUnavailable": "exceptions",
    "carry_tenant": "tasks",
    "current_tenant": "context",
    "org_role_required": "decorators",
    "require_tenant": "context",
    "scopes_disabled": "context",
    "tenant_context": "context",
    "tenant_required": "decorators",
}

__all__ = [
    "CrossTenantWrite",
    "EnableTenantRowSecurity",
    "HasOrgPermission",
    "HasOrgRole",
    "IsTenantAdmin",
    "IsTenantMember",
    "NoCurrentTenant",
    "TenantOwnedModel",
    "TenantScopedManager",
    "TenantScopedQuerySet",
    "TenantScopedViewSetMixin",
    "TenantUnavailable",
    "carry_tenant",
    "current_tenant",
    "org_role_required",
    "require_tenant",
    "scopes_disabled",
    "tenant_context",
    "tenant_required",
]


def __getattr__(name: str) -> Any:
    """Import a name of this package from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
