"""Staff gives one legacy tenant its organization, within the time of a web request."""

import logging
from collections.abc import Sequence
from typing import Any

from clerk_integration.conf import clerk_settings
from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import ClerkError
from clerk_integration.organizations import iter_clerk_memberships, iter_clerk_orgs
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.backfill.members import owners_of
from tenants.backfill.organization import Draft, attempt_for, create_or_find
from tenants.creation import attempts, search
from tenants.exceptions import AlreadyLinked, NoOwner
from tenants.lifecycle import link
from tenants.mirror import writer
from tenants.models import CreationAttempt, Tenant

logger = logging.getLogger(__name__)


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
    draft = Draft(tenant.pk, tenant.name, _owner_of(tenant), tenant.slug or None)
    with clerk_deadline(clerk_settings.timeout_seconds):
        organization, _ = create_or_find(draft, _search)
        linked = _link(tenant, organization)
    attempt = attempt_for(tenant.pk)
    if attempt is not None:
        attempts.close_backfill(attempt, organization)
    logger.info("tenant %s got %s in Clerk by %s", tenant.pk, organization.id, acting_user or "the system")
    return linked


def _search(attempt: CreationAttempt) -> ClerkOrganization | None:
    # All of Clerk is searched: the owner may have left, the name have changed.
    return search.search(attempt, iter_clerk_orgs(order_by="-created_at"))


def _owner_of(tenant: Tenant) -> str:
    owners = owners_of([tenant.pk]).get(tenant.pk)
    if not owners:
        raise NoOwner(
            "No member is its owner or admin, and Clerk needs one as the first member."
            " Create the organization in Clerk and link it to this tenant."
        )
    return owners[0]


def _link(tenant: Tenant, organization: ClerkOrganization) -> Tenant:
    """Link what was just created, from Clerk's own answer: a fetch may not see it yet."""
    listed_at = writer.clock()
    memberships, complete = _members_of(organization)
    return link.link(tenant, organization, memberships, listed_at=listed_at, complete=complete)


def _members_of(organization: ClerkOrganization) -> tuple[Sequence[ClerkMembership], bool]:
    try:
        memberships = iter_clerk_memberships(organization.id).to_list()
    except ClerkError:
        logger.warning("members of %s not read back; a sync will", organization.id, exc_info=True)
        return [], False
    return memberships, memberships.complete
