"""Define the models of tenants."""

from tenants.models.alerts import Alert
from tenants.models.creations import CreationAttempt, Installation
from tenants.models.history import TenantHistory
from tenants.models.mirror import Membership, Tenant, Tombstone, UserSync
from tenants.models.requests import RequestCount
from tenants.models.runs import SyncRun, SyncRunPage, SyncRunSlice

__all__ = [
    "Alert",
    "CreationAttempt",
    "Installation",
    "Membership",
    "RequestCount",
    "SyncRun",
    "SyncRunPage",
    "SyncRunSlice",
    "Tenant",
    "TenantHistory",
    "Tombstone",
    "UserSync",
]
