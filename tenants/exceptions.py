"""Exceptions about tenants and about full syncs.

TenantError
├── TenantInactive           the tenant is suspended or deactivated; only a status change is possible
├── NotAMember               the user has no (active) membership of the tenant or organization
├── InvalidFile              a file has lines that cannot be used; the message names them
├── UnknownTenants           there are no tenants with these ids
├── UnknownOrganization      Clerk does not know the organization id
├── OrganizationDeleted      the organization is recorded as deleted in Clerk
├── AlreadyLinked            the tenant, or the organization, is linked to another one
├── AbsorbRefused            the row to absorb has local data; `reasons` names it
├── AmbiguousMarker          several organizations in Clerk carry the tenant's marker
├── NoOwner                  the tenant has no owner who could be the organization's first member
├── IdempotencyKeyInUse      a request with the same key has no known outcome yet
└── IdempotencyKeyReused     the same key came with another body

SyncError
├── SyncAlreadyRunning       another process runs a full sync
├── SyncLost                 another process has taken the run over
├── SyncInterrupted          stopped on request; the run can be resumed
└── TooManyMissing           so much is missing from Clerk that nothing was retired
"""

from collections.abc import Sequence


class TenantError(Exception):
    """Base of the errors about tenants; never raised itself. The message is for the user."""


class TenantInactive(TenantError):
    """The tenant is suspended or deactivated."""


class NotAMember(TenantError):
    """The user is not an active member."""


class InvalidFile(TenantError):
    """A file cannot be used; the message names its lines."""


class UnknownTenants(TenantError):
    """There are no tenants with these ids."""

    def __init__(self, tenant_ids: Sequence[int]) -> None:
        listed = ", ".join(map(str, tenant_ids))
        super().__init__(f"There {'are no tenants' if len(tenant_ids) > 1 else 'is no tenant'} {listed}.")


class UnknownOrganization(TenantError):
    """Clerk does not know the organization."""


class OrganizationDeleted(TenantError):
    """The organization was deleted in Clerk; its id never comes back."""


class AlreadyLinked(TenantError):
    """The tenant or the organization is linked elsewhere already."""


class AbsorbRefused(TenantError):
    """The tenant that mirrors the organization already has local data."""

    def __init__(self, message: str, *, reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class AmbiguousMarker(TenantError):
    """Several organizations in Clerk carry the tenant's marker."""


class NoOwner(TenantError):
    """The tenant has no owner whom Clerk could make the first member of its organization."""


class IdempotencyKeyInUse(TenantError):
    """A request with this key has no outcome yet; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdempotencyKeyReused(TenantError):
    """The key was used for a different request."""


class SyncError(Exception):
    """Base of the errors that end a full sync; never raised itself. The message is for operators."""


class SyncAlreadyRunning(SyncError):
    """Another process runs a full sync; nothing was done."""


class SyncLost(SyncError):
    """Another process has taken the run over."""


class SyncInterrupted(SyncError):
    """Stopped on request. What was written is kept, and the run can be resumed."""


class TooManyMissing(SyncError):
    """More is missing from Clerk than may be retired at once; nothing was retired, the rest was written."""
