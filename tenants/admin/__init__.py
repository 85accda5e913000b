"""Tenants and memberships in the Django admin: to look at, with actions that call the services."""

from tenants.admin.memberships import MembershipAdmin
from tenants.admin.tenants import TenantAdmin

__all__ = ["MembershipAdmin", "TenantAdmin"]
