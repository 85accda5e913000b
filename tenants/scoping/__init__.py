"""Keep code that builds on this project inside the current tenant: rows, permissions, tasks and raw SQL."""

from tenants.scoping.context import current_tenant, require_tenant, scopes_disabled, tenant_context
from tenants.scoping.decorators import org_role_required, tenant_required
from tenants.scoping.exceptions import CrossTenantWrite, NoCurrentTenant, TenantUnavailable
from tenants.scoping.managers import TenantScopedManager, TenantScopedQuerySet
from tenants.scoping.models import TenantOwnedModel
from tenants.scoping.permissions import HasOrgPermission, HasOrgRole, IsTenantAdmin, IsTenantMember
from tenants.scoping.row_security import EnableTenantRowSecurity
from tenants.scoping.tasks import carry_tenant
from tenants.scoping.viewsets import TenantScopedViewSetMixin

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
