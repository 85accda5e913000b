"""Make the members of a legacy tenant members of its organization in Clerk."""

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
"""Roles that qualify a member to become the organization's first member, the preferred role first."""

CLERK_ROLES = {"owner": CLERK_ADMIN_ROLE, "admin": CLERK_ADMIN_ROLE, "member": "org:member"}
"""Clerk's role for each legacy role; other roles are sent in Clerk's spelling."""

MEMBER_LIMIT_REACHED = "organization_membership_quota_exceeded"
"""Clerk's code when a new member would exceed `max_allowed_memberships`."""

SPARE_SEATS = 5
"""Free places for members and invitations that remain after the member limit was increased."""

MAX_TRIES = 4
"""Maximum number of POSTs for one membership. A repetition is safe: Clerk refuses a second membership."""


@dataclass
class MemberResult:
    """The memberships that Clerk created for a tenant, and a message for each member that Clerk refused."""

    memberships: list[ClerkMembership] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def owners_by_tenant(tenant_ids: Sequence[int]) -> dict[int, list[str]]:
    """Return the users who may become each tenant's first member: owners before admins, oldest first."""
    members = Membership.objects.filter(tenant__in=tenant_ids, is_active=True, role__in=OWNER_ROLES)
    rows = members.order_by("created_at").values_list("tenant_id", "role", "clerk_user_id")
    owners: dict[int, list[str]] = defaultdict(list)
    for tenant_id, _, user_id in sorted(rows, key=lambda row: OWNER_ROLES.index(row[1])):
        owners[tenant_id].append(user_id)
    return dict(owners)


def member_limit(members: int, default_limit: int | None) -> int | None:
    """Return the `max_allowed_memberships` to send; None if `default_limit` (0: no limit) is enough."""
    if default_limit == 0 or members <= (default_limit or 0):
        return None
    return members + SPARE_SEATS


def create_members(tenant_id: int, organization: ClerkOrganization, *, owner: str) -> MemberResult:
    """Create a membership in Clerk for each active member of the tenant except `owner`.

    Send one POST for each member; existing memberships stay unchanged. If Clerk refuses a member (unknown
    user or role), report the member and continue with the next one. Write nothing to the database. The
    call may be repeated. Raise ClerkUnavailable and ClerkMisconfigured.
    """
    local = Membership.objects.filter(tenant=tenant_id, is_active=True, clerk_membership_id=None)
    members = list(local.exclude(clerk_user_id=owner).order_by("id").values_list("clerk_user_id", "role"))
    result = MemberResult()
    for user_id, role in members:
        try:
            membership = _create(organization.id, user_id, clerk_role(role), seats=len(members) + 1)
        except (ClerkNotFound, ClerkRejected, InvalidClerkId) as error:
            result.problems.append(f"{user_id}: {error}")
        else:
            result.memberships += [] if membership is None else [membership]
    return result


def clerk_role(role: str) -> str:
    """Return a local role in Clerk's spelling."""
    return CLERK_ROLES.get(role) or normalise_role(role)


def _create(org_id: str, user_id: str, role: str, *, seats: int) -> ClerkMembership | None:
    """Create a membership. If Clerk answers that the member limit is reached, increase it and try again."""
    try:
        return _send(org_id, user_id, role)
    except ClerkRejected as refusal:
        if refusal.code != MEMBER_LIMIT_REACHED:
            raise
    raise_clerk_member_limit(org_id, seats + SPARE_SEATS)
    return _send(org_id, user_id, role)


def _send(org_id: str, user_id: str, role: str) -> ClerkMembership | None:
    for _ in range(MAX_TRIES - 1):
        try:
            return create_clerk_membership(org_id, user_id, role)
        except ClerkUnavailable as failure:
            logger.info("Retrying to add %s to %s: %s", user_id, org_id, failure)
    return create_clerk_membership(org_id, user_id, role)
