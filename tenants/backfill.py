"""Tenants from before Clerk get their organization in Clerk: one each, and never two.

A tenant has a single attempt on record, kept single by the database and committed before the POST.
The organization carries the attempt's marker in its private metadata, so that one whose reply was
lost is found and adopted instead of created again.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from clerk_integration.conf import clerk_settings
from clerk_integration.deadlines import clerk_deadline
from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import ClerkError, ClerkRejected
from clerk_integration.organizations import (
    create_clerk_org,
    get_clerk_org,
    iter_clerk_memberships,
    iter_clerk_orgs,
)
from tenants import attempts, sync, transitions
from tenants.exceptions import AlreadyLinked, NoOwner
from tenants.models import CreationAttempt, Membership, Tenant, Tombstone
from tenants.querysets import LEGACY_ADMIN_ROLES

logger = logging.getLogger(__name__)

CALLER = "backfill"
"""Stands for the caller in our attempts; no Clerk user has this id, so no request can meet our keys."""

SLUGS_DISABLED = "organization_slugs_disabled"
"""Clerk's code for a slug sent to an instance that has none, the default for new instances."""


def create_organization_for(tenant: Tenant, *, acting_user: Any) -> Tenant:
    """Create a legacy tenant's organization in Clerk and link it; a second call never makes a second one.

    The tenant's owner becomes the first member, in Clerk's creator role; name and slug are sent as
    they are, and the slug is left out where the instance has slugs disabled: the tenant then has
    whatever slug Clerk says. Writes the attempt, then the tenant and its members, and absorbs the
    bare row that a sync has made of the organization meanwhile; other local members are left alone.
    Calls Clerk: one POST and one listing of members, and a listing of organizations first when the
    outcome of an earlier call is not known. `acting_user` is who decided so, for the log.

    Raise AlreadyLinked, NoOwner, IdempotencyKeyInUse (somebody else is at it, or it cannot be told
    yet what an earlier call came to), AbsorbRefused or ClerkError; what was created in Clerk is
    then linked by the next call.
    """
    tenant.refresh_from_db()
    if tenant.clerk_org_id is not None:
        raise AlreadyLinked(f"This tenant is linked to {tenant.clerk_org_id} already.")
    owner = _owner_of(tenant)
    with clerk_deadline(clerk_settings.timeout_seconds):
        organization = _create_or_find(tenant, owner)
        linked = _link(tenant, organization)
    logger.info("tenant %s got %s in Clerk by %s", tenant.pk, organization.id, acting_user or "the system")
    return linked


def _owner_of(tenant: Tenant) -> str:
    """The user whom Clerk is to make the first member: an owner, else an admin, the earliest."""
    members = Membership.objects.filter(tenant=tenant, is_active=True, role__in=LEGACY_ADMIN_ROLES)
    ranked = sorted(members, key=lambda member: (LEGACY_ADMIN_ROLES.index(member.role), member.created_at))
    if not ranked:
        raise NoOwner(
            "No member is its owner or admin, and Clerk needs one as the first member."
            " Create the organization in Clerk and link it to this tenant."
        )
    return ranked[0].clerk_user_id


def _create_or_find(tenant: Tenant, owner: str) -> ClerkOrganization:
    key = f"tenant:{tenant.pk}"
    # No body hash: what is wanted is this tenant's organization, also after the tenant was renamed.
    attempt = transitions.begin_creation(clerk_user_id=CALLER, body_hash="", idempotency_key=key)
    if attempt is not None:
        return _send(attempt, tenant, owner)
    attempt = CreationAttempt.objects.get(clerk_user_id=CALLER, idempotency_key=key)
    organization = _created_before(attempt)
    if not transitions.resume_creation(attempt):
        raise attempts.in_progress(retry_after=attempts.IN_FLIGHT_SECONDS)
    return _send(attempt, tenant, owner) if organization is None else _created(attempt, organization)


def _created_before(attempt: CreationAttempt) -> ClerkOrganization | None:
    """What an earlier call has created; None when it is certain that there is nothing."""
    if attempt.state == CreationAttempt.State.FAILED:
        return None
    if attempt.state == CreationAttempt.State.SUCCEEDED:
        clerk_org_id = (attempt.answer or {})["clerk_org_id"]
        dead = Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=clerk_org_id)
        return None if dead.exists() else get_clerk_org(clerk_org_id)
    # All of Clerk is searched: the owner may have left, the name have changed.
    return attempts.search(attempt, iter_clerk_orgs(order_by="-created_at"))


def _send(attempt: CreationAttempt, tenant: Tenant, owner: str) -> ClerkOrganization:
    organization = attempts.send(
        attempt, lambda marker: _post(tenant.name, owner, tenant.slug or None, marker)
    )
    return _created(attempt, organization)


def _post(name: str, owner: str, slug: str | None, marker: Mapping[str, str]) -> ClerkOrganization:
    try:
        return create_clerk_org(name, owner, slug, marker=marker)
    except ClerkRejected as refusal:
        if slug is None or refusal.code != SLUGS_DISABLED:
            raise
    return create_clerk_org(name, owner, marker=marker)


def _created(attempt: CreationAttempt, organization: ClerkOrganization) -> ClerkOrganization:
    transitions.settle_creation(attempt, CreationAttempt.State.SUCCEEDED, {"clerk_org_id": organization.id})
    return organization


def _link(tenant: Tenant, organization: ClerkOrganization) -> Tenant:
    """Link what was just created, from Clerk's own answer: a fetch may not see it yet."""
    listed_at = sync.clock()
    memberships, complete = _members_of(organization)
    return transitions.link(tenant, organization, memberships, listed_at=listed_at, complete=complete)


def _members_of(organization: ClerkOrganization) -> tuple[Sequence[ClerkMembership], bool]:
    try:
        memberships = iter_clerk_memberships(organization.id).to_list()
    except ClerkError:
        logger.warning("members of %s not read back; a sync will", organization.id, exc_info=True)
        return [], False
    return memberships, memberships.complete
