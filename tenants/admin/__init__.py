"""The Django admin of tenants and memberships: read-only pages, and actions that call the services."""

from tenants.admin.memberships import MembershipAdmin
from tenants.admin.tenants import TenantAdmin

__all__ = ["MembershipAdmin", "TenantAdmin"]
