"""What can be wrong with a tenant, or with what somebody wants of it.

TenantError
├── TenantInactive           the tenant is suspended or deactivated; only a status change is possible
├── NotAMember               the user has no (active) membership of the tenant or organization
├── UnknownOrganization      Clerk does not know the organization id
├── OrganizationDeleted      the organization id is dead in Clerk
├── AlreadyLinked            the tenant, or the organization, is linked to another one
├── AbsorbRefused            the row to absorb is more than a mirror; `reasons` says why
├── NoOwner                  the tenant has no member whom Clerk could make the organization's first
├── IdempotencyKeyInUse      the same key is being worked on, or its outcome is not known yet
└── IdempotencyKeyReused     the same key came with another body
"""

from collections.abc import Sequence


class TenantError(Exception):
    """Base of the tree; never raised itself. The message is fit for the user to read."""


class TenantInactive(TenantError):
    """The tenant is suspended or deactivated."""


class NotAMember(TenantError):
    """The user is not an active member."""


class UnknownOrganization(TenantError):
    """Clerk does not know the organization."""


class OrganizationDeleted(TenantError):
    """The organization was deleted in Clerk; its id never comes back."""


class AlreadyLinked(TenantError):
    """The tenant or the organization is linked elsewhere already."""


class AbsorbRefused(TenantError):
    """The tenant that mirrors the organization already is in use by itself."""

    def __init__(self, message: str, *, reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class NoOwner(TenantError):
    """The tenant has no owner whom Clerk could make the first member of its organization."""


class IdempotencyKeyInUse(TenantError):
    """A request with this key has no outcome yet; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdempotencyKeyReused(TenantError):
    """The key was used for a different request."""
