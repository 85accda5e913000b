"""The user of a request, with checks of its role and permissions in the tenant of the request."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Self

from clerk_integration.entities import normalise_role
from clerk_integration.tokens.clerk_user import ClerkUser
from tenants.querysets import CLERK_ADMIN_ROLE, LEGACY_ADMIN_ROLES

if TYPE_CHECKING:
    from tenants.models import Membership
    from tenants.scoping.requests import RequestScope


@dataclass(frozen=True, slots=True)
class TenantUser(ClerkUser):
    """The user of one request."""

    scope: RequestScope | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, user: ClerkUser, scope: RequestScope) -> Self:
        """Return the user of a token as the user of a request."""
        claims = {one.name: getattr(user, one.name) for one in fields(ClerkUser)}
        return cls(**claims, scope=scope)

    def is_same(self, user: ClerkUser) -> bool:
        """Return whether the token of `user` makes the same claims."""
        return all(getattr(self, one.name) == getattr(user, one.name) for one in fields(ClerkUser))

    def has(self, *, role: str | None = None, permission: str | None = None) -> bool:
        """Return whether the user has the role and the permission in the tenant of the request.

        `org:` may be left out. Without a role and a permission, and without a tenant, return False.

        | asked for | reads | writes |
        | --- | --- | --- |
        | role | role in the token | role of the stored membership |
        | permission | permission in the token | also: both roles are the same |

        A token says nothing about a tenant other than that of its active organization: the role of the stored
        membership counts, and no permission is granted. An API key has no organization: its scopes are
        permissions in every tenant of its user.
        """
        membership = self.scope.membership if self.scope else None
        if membership is None or (role is None and permission is None):
            return False
        return (role is None or self._has_role(membership, normalise_role(role))) and (
            permission is None or self._has_permission(membership, normalise_role(permission))
        )

    def _has_role(self, membership: Membership, role: str) -> bool:
        if self._is_for(membership) and self.organization_role and not self._writes:
            return role == self.organization_role
        return role in roles_of(membership)

    def _has_permission(self, membership: Membership, permission: str) -> bool:
        if self.api_key_id is not None:
            return permission in self.organization_permissions
        is_current = not self._writes or self.organization_role in (None, membership.role)
        return self._is_for(membership) and is_current and permission in self.organization_permissions

    def _is_for(self, membership: Membership) -> bool:
        return self.organization_id is not None and self.organization_id == membership.tenant.clerk_org_id

    @property
    def _writes(self) -> bool:
        return self.scope is None or self.scope.is_write


def roles_of(membership: Membership) -> frozenset[str]:
    """Return the roles of a membership as Clerk spells them.

    | tenant | stored role | roles |
    | --- | --- | --- |
    | linked | any | the stored role |
    | legacy | `owner` or `admin` | `org:owner` or `org:admin`, and `org:admin` |
    | legacy | any other | the stored role with `org:` |
    """
    if not membership.tenant.is_legacy:
        return frozenset({membership.role})
    roles = {normalise_role(membership.role)}
    return frozenset(roles | {CLERK_ADMIN_ROLE} if membership.role in LEGACY_ADMIN_ROLES else roles)


def is_org_admin(membership: Membership | None) -> bool:
    """Return whether the membership is an admin's, by the stored role."""
    return membership is not None and CLERK_ADMIN_ROLE in roles_of(membership)
