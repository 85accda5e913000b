"""The Django admin of tenants: read-only pages, and actions that call the services."""

from django.apps import apps

# Without Procrastinate, its models cannot be imported, and a system check says so.
if apps.is_installed("procrastinate.contrib.django"):
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
