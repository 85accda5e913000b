"""Exceptions about tenants and about full syncs.

TenantError
├── TenantInactive           the tenant is suspended or deactivated; only a status change is possible
├── NotAMember               the user has no (active) membership of the tenant or organization
├── InvalidFile              a file has lines that cannot be used; the message names them
├── UnknownTenants           there are no tenants with these ids
├── UnknownOrganization      Clerk does not know the organization id
│   └── NotLinked            the tenant has no organization in Clerk
├── OrganizationDeleted      the organization is recorded as deleted in Clerk
├── OrganizationExists       the tenant's organization still exists in Clerk
├── TenantInUse              rows that protect the tenant from deletion refer to it
├── AlreadyLinked            the tenant has another organization, or the organization another tenant
├── AbsorbRefused            the row to absorb has local data; `reasons` names it
├── AmbiguousMarker          several organizations in Clerk carry the tenant's marker
├── NoOwner                  the tenant has no owner to become the organization's first member
├── IdempotencyKeyInUse      the outcome of an earlier request with the same key is not known yet
└── IdempotencyKeyReused     an earlier request used the same key with another body

SyncError
├── SyncAlreadyRunning       another process runs a full sync
├── SyncLost                 another process has taken over the run
├── SyncInterrupted          the full sync was stopped on request; it can be resumed
└── TooManyMissing           too many rows are missing from Clerk; no row was retired
"""

from collections.abc import Sequence
from typing import Self


class TenantError(Exception):
    """Base class of the errors about tenants; not raised itself. The message is for the user."""


class TenantInactive(TenantError):
    """The tenant is suspended or deactivated."""


class NotAMember(TenantError):
    """The user is not an active member."""


class InvalidFile(TenantError):
    """The file has lines that cannot be used; the message names them."""


class UnknownTenants(TenantError):
    """There are no tenants with these ids."""

    def __init__(self, tenant_ids: Sequence[int]) -> None:
        listed = ", ".join(map(str, tenant_ids))
        super().__init__(f"There {'are no tenants' if len(tenant_ids) > 1 else 'is no tenant'} {listed}.")


class UnknownOrganization(TenantError):
    """Clerk does not know the organization."""


class NotLinked(UnknownOrganization):
    """The tenant has no organization in Clerk."""


class OrganizationDeleted(TenantError):
    """The organization is recorded as deleted in Clerk."""

    @classmethod
    def recorded(cls, clerk_org_id: str) -> Self:
        """Return the error of a write to an organization that has a tombstone."""
        return cls(
            f"It is recorded here that {clerk_org_id} was deleted in Clerk. Nothing was changed."
            f" If Clerk has it after all, run `sync_from_clerk --organization {clerk_org_id}` first."
        )


class OrganizationExists(TenantError):
    """The tenant's organization still exists in Clerk."""


class TenantInUse(TenantError):
    """The tenant cannot be deleted, because rows of other models refer to it with on_delete=PROTECT."""


class AlreadyLinked(TenantError):
    """The tenant has another organization, or the organization another tenant."""


class AbsorbRefused(TenantError):
    """The tenant that is linked to the organization already has local data, or was itself linked."""

    def __init__(self, message: str, *, reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class AmbiguousMarker(TenantError):
    """Several organizations in Clerk carry the tenant's marker."""


class NoOwner(TenantError):
    """The tenant has no owner to become the first member of the organization in Clerk."""


class IdempotencyKeyInUse(TenantError):
    """The outcome of an earlier request with this key is unknown; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdempotencyKeyReused(TenantError):
    """The key was used for a different request."""


class SyncError(Exception):
    """Base class of the errors that end a full sync; not raised itself. The message is for operators."""


class SyncAlreadyRunning(SyncError):
    """Another process runs a full sync; nothing was done."""


class SyncLost(SyncError):
    """Another process has taken over the run."""


class SyncInterrupted(SyncError):
    """The full sync was stopped on request. Written rows are kept, and the run can be resumed."""


class TooManyMissing(SyncError):
    """More rows are missing from Clerk than may be retired at once, so none of them was retired."""
