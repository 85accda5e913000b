"""Create the organization of one legacy tenant, within the time of a web request."""

import logging
from typing import Any

from clerk_integration.organizations import find_clerk_users
from clerk_integration.wire.deadlines import default_deadline
from tenants.backfill.attempts import attempt_for
from tenants.backfill.members import owners_by_tenant
from tenants.backfill.organization import Draft, find_by_marker, get_or_create, refuse_in_flight
from tenants.backfill.snapshot import ClerkSnapshot, take_snapshot
from tenants.backfill.step import link_organization
from tenants.creation.instances import require_own_instance
from tenants.exceptions import AlreadyLinked, NoOwner
from tenants.models import CreationAttempt, Tenant

logger = logging.getLogger(__name__)


def create_organization_for(
    tenant: Tenant, *, acting_user: Any, owner: str | None = None, snapshot: ClerkSnapshot | None = None
) -> Tenant:
    """Create a legacy tenant's organization in Clerk and link it; a repeated call creates no second one.

    The tenant's owner becomes the first member, in Clerk's creator role; `owner` if Clerk knows none of the
    tenant's owners. Name and slug are sent unchanged; if the instance has slugs disabled, the tenant gets
    the slug that Clerk returns. Write the attempt, then the tenant and its members. Absorb the mirror-only
    tenant if a sync has mirrored the organization. The tenant's other members stay unchanged. Call Clerk: one
    listing of all organizations, to find one that carries the tenant's marker; one POST; one listing of the
    members. `snapshot` is such a listing for several tenants. The history names `acting_user`.

    Raise AlreadyLinked, NoOwner, IdempotencyKeyInUse (another process is working on the tenant, or the
    outcome of an earlier call cannot be known yet), AmbiguousMarker, AbsorbRefused or ClerkError. If
    the organization was created before the error, the next call links it.
    """
    tenant.refresh_from_db()
    if tenant.clerk_org_id is not None:
        raise AlreadyLinked(f"This tenant is already linked to {tenant.clerk_org_id}.")
    candidates = _owners_of(tenant, owner)
    attempt = attempt_for(tenant.pk)
    if attempt is not None and attempt.state == CreationAttempt.State.SENT:
        refuse_in_flight(attempt)
    with default_deadline():
        require_own_instance()
        draft = Draft(
            tenant.pk, tenant.name, _known_owner(candidates), tenant.slug or None, adds_members=False
        )
        # A database restored from a backup may lack an attempt that created an organization.
        taken = snapshot or take_snapshot([tenant.pk])
        found = find_by_marker(tenant.pk, attempt, taken)
        organization, _ = get_or_create(
            draft,
            attempt,
            None if found is None else found.id,
            lambda late: taken if taken.is_late_enough(late) else take_snapshot([tenant.pk]),
        )
        linked = link_organization(tenant, organization, needs_members=False, acting_user=acting_user)
    logger.info(
        "Created %s in Clerk for tenant %s by %s", organization.id, tenant.pk, acting_user or "the system"
    )
    return linked


def _owners_of(tenant: Tenant, fallback: str | None) -> list[str]:
    """Return the users who may become the first member, the preferred user first. Raise NoOwner."""
    owners = owners_by_tenant([tenant.pk]).get(tenant.pk, [])
    candidates = [user for user in (*owners, fallback) if user]
    if not candidates:
        raise NoOwner(
            "No member of this tenant is its owner or admin, and Clerk needs one as the first member."
            " Name a Clerk user as the owner, or create the organization in Clerk and link this tenant to it."
        )
    return candidates


def _known_owner(candidates: list[str]) -> str:
    """Return the first candidate whom Clerk knows, as in the plan. Clerk refuses an unknown user."""
    if len(candidates) == 1:
        return candidates[0]
    known = find_clerk_users(candidates)
    return next((user for user in candidates if user in known), candidates[0])
