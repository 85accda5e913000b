"""The Django admin of tenants: read-only pages, and actions that call the services."""

from tenants.admin.creations import CreationAttemptAdmin
from tenants.admin.history import TenantHistoryAdmin
from tenants.admin.jobs import JobAdmin
from tenants.admin.memberships import MembershipAdmin
from tenants.admin.runs import SyncRunAdmin
from tenants.admin.tenants import TenantAdmin

__all__ = [
    "CreationAttemptAdmin",
    "JobAdmin",
    "MembershipAdmin",
    "SyncRunAdmin",
    "TenantAdmin",
    "TenantHistoryAdmin",
]
