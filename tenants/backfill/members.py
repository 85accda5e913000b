"""The members of a legacy tenant become members of its organization in Clerk."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from clerk_integration.entities import ClerkMembership, ClerkOrganization, normalise_role
from clerk_integration.exceptions import (
    ClerkNotFound,
    ClerkRejected,
    ClerkUnavailable,
    InvalidClerkId,
)
from clerk_integration.organizations import create_clerk_membership, raise_clerk_member_limit
from tenants.models import Membership
from tenants.querysets import CLERK_ADMIN_ROLE, LEGACY_ADMIN_ROLES

logger = logging.getLogger(__name__)

OWNER_ROLES = (*LEGACY_ADMIN_ROLES, CLERK_ADMIN_ROLE)
"""Roles whose bearer may become an organization's first member, the best first."""

CLERK_ROLES = {"owner": CLERK_ADMIN_ROLE, "admin": CLERK_ADMIN_ROLE, "member": "org:member"}
"""What the legacy roles are in Clerk; other roles go as they are, spelled as Clerk does."""

MEMBER_LIMIT_REACHED = "organization_membership_quota_exceeded"
"""Clerk's code for one member more than `max_allowed_memberships`."""

ROOM_FOR_GROWTH = 5
"""Members, and invitations, that an organization with a raised limit may still take."""

TRIES = 4
"""How often a member is sent at most: a second membership is refused by Clerk, so nothing can double."""


@dataclass
class Brought:
    """What became of a tenant's members: memberships that Clerk made, and why others were refused."""

    memberships: list[ClerkMembership] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def owners_of(tenant_ids: Sequence[int]) -> dict[int, list[str]]:
    """Return who may become a tenant's first member: owners, then admins, the earliest first."""
    members = Membership.objects.filter(tenant__in=tenant_ids, is_active=True, role__in=OWNER_ROLES)
    rows = members.order_by("created_at").values_list("tenant_id", "role", "clerk_user_id")
    owners: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for tenant_id, role, user_id in rows:
        owners[tenant_id].append((OWNER_ROLES.index(role), user_id))
    return {
        tenant_id: [user_id for _, user_id in sorted(ranked, key=lambda entry: entry[0])]
        for tenant_id, ranked in owners.items()
    }


def member_limit(members: int, default_limit: int | None) -> int | None:
    """Return the `max_allowed_memberships` to ask for; None where the instance's default (0: any) will do."""
    if default_limit == 0 or members <= (default_limit or 0):
        return None
    return members + ROOM_FOR_GROWTH


def bring_members(tenant_id: int, organization: ClerkOrganization, *, owner: str) -> Brought:
    """Make the tenant's other active members members of the organization in Clerk.

    One POST each; who is a member already stays as they are. A member whom Clerk refuses, because it
    does not know the user or the role, is reported and the rest go on. Writes nothing here. Raise
    ClerkUnavailable and ClerkMisconfigured; calling again does no harm.
    """
    local = Membership.objects.filter(tenant=tenant_id, is_active=True, clerk_membership_id=None)
    members = list(local.exclude(clerk_user_id=owner).order_by("id").values_list("clerk_user_id", "role"))
    brought = Brought()
    for user_id, role in members:
        try:
            membership = _bring(organization.id, user_id, clerk_role(role), room_for=len(members) + 1)
        except (ClerkNotFound, ClerkRejected, InvalidClerkId) as error:
            brought.problems.append(f"{user_id}: {error}")
        else:
            brought.memberships += [] if membership is None else [membership]
    return brought


def clerk_role(role: str) -> str:
    """Return a local role as Clerk spells it."""
    return CLERK_ROLES.get(role) or normalise_role(role)


def _bring(org_id: str, user_id: str, role: str, *, room_for: int) -> ClerkMembership | None:
    try:
        return _send(org_id, user_id, role)
    except ClerkRejected as refusal:
        if refusal.code != MEMBER_LIMIT_REACHED:
            raise
    raise_clerk_member_limit(org_id, room_for + ROOM_FOR_GROWTH)
    return _send(org_id, user_id, role)


def _send(org_id: str, user_id: str, role: str) -> ClerkMembership | None:
    for _ in range(TRIES - 1):
        try:
            return create_clerk_membership(org_id, user_id, role)
        except ClerkUnavailable as failure:
            logger.info("Sending %s to %s again: %s", user_id, org_id, failure)
    return create_clerk_membership(org_id, user_id, role)
