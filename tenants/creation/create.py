"""Creating a tenant for a user: in Clerk first, with an attempt on record before the one POST."""

import hashlib
import json
import logging
from dataclasses import dataclass

from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkError
from clerk_integration.instance import get_clerk_organization_settings
from clerk_integration.organizations import create_clerk_org, get_clerk_membership, iter_clerk_orgs
from tenants.creation import attempts, search
from tenants.creation.finish import claim_primary, finish_creation
from tenants.exceptions import IdempotencyKeyReused, OrganizationDeleted, TenantInactive
from tenants.mirror import leases
from tenants.models import CreationAttempt, Tenant

logger = logging.getLogger(__name__)

DEFAULT_CREATOR_ROLE = "org:admin"
"""Clerk's creator role unless the instance was told otherwise."""

LEAST_ROLE = "org:member"

NEW_KEY = "Nothing was created again; to create another one, send a new Idempotency-Key."


@dataclass(frozen=True, slots=True)
class Creation:
    """What a user wants created; the same `idempotency_key` means the same wish."""

    clerk_user_id: str
    name: str
    slug: str | None = None
    idempotency_key: str | None = None

    @property
    def body_hash(self) -> str:
        """SHA-256 of what the request asks for."""
        return hashlib.sha256(json.dumps([self.name, self.slug]).encode()).hexdigest()


def create_in_clerk(creation: Creation) -> Tenant:
    """Create the organization in Clerk and mirror it, or return what the same key created before.

    Writes the attempt, then tenant and membership. Calls Clerk: one POST, then one GET for the
    creator's membership; with a key whose outcome is unknown, a listing first. Raise ClerkError
    (when the outcome is unknown the attempt stays on record), IdempotencyKeyInUse or
    IdempotencyKeyReused; OrganizationDeleted or TenantInactive for what became of the tenant since.
    """
    attempt = attempts.begin_creation(
        clerk_user_id=creation.clerk_user_id,
        body_hash=creation.body_hash,
        idempotency_key=creation.idempotency_key,
    )
    if attempt is None:
        attempt = CreationAttempt.objects.get(
            clerk_user_id=creation.clerk_user_id, idempotency_key=creation.idempotency_key
        )
        tenant = _settled(attempt, creation)
        if tenant is not None:
            return tenant
    return _send(attempt, creation)


def _send(attempt: CreationAttempt, creation: Creation) -> Tenant:
    try:
        organization = attempts.send(
            attempt,
            lambda marker: create_clerk_org(
                creation.name, creation.clerk_user_id, creation.slug, marker=marker
            ),
        )
    except ClerkError as error:
        if attempts.may_exist(error):
            # Whoever looks for it next must not be told what was true before.
            leases.expire(creation.clerk_user_id)
        raise
    return _finish(attempt, organization, just_created=True)


def _settled(attempt: CreationAttempt, creation: Creation) -> Tenant | None:
    """What an earlier request with the same key came to; None when the attempt is ours to send again."""
    if attempt.body_hash != creation.body_hash:
        raise IdempotencyKeyReused("This Idempotency-Key was used for a different request.")
    if attempt.state == CreationAttempt.State.SUCCEEDED:
        return _created_before(attempt)
    if attempt.state != CreationAttempt.State.FAILED:
        organization = _search(attempt)
        if organization is not None:
            return _finish(attempt, organization, just_created=False)
    if not attempts.resume_creation(attempt):
        raise search.in_progress(retry_after=1.0)
    return None


def _search(attempt: CreationAttempt) -> ClerkOrganization | None:
    """Look among the creator's organizations, and before anything is sent again among all others."""
    try:
        return search.search(attempt, iter_clerk_orgs(user_id=attempt.clerk_user_id)) or search.search(
            attempt, iter_clerk_orgs(order_by="-created_at")
        )
    except ClerkError as error:
        # Whatever it failed with: nothing is known of the attempt, even where Clerk refused the search.
        error.outcome_unknown = True
        raise


def _created_before(attempt: CreationAttempt) -> Tenant:
    """The tenant that the attempt made; who has left it since is told by what they may see, not here."""
    clerk_org_id = (attempt.answer or {}).get("clerk_org_id", "")
    tenant = Tenant.objects.filter(clerk_org_id=clerk_org_id).first()
    if tenant is None or tenant.deleted_at is not None:
        raise OrganizationDeleted(
            f"The organization that this Idempotency-Key created has been deleted since. {NEW_KEY}"
        )
    members = tenant.memberships.filter(clerk_user_id=attempt.clerk_user_id, is_active=True)
    if not tenant.is_active and members.exists():
        raise TenantInactive(
            f"The tenant that this Idempotency-Key created is {tenant.status} now. {NEW_KEY}"
        )
    claim_primary(attempt, tenant)
    return tenant


def _finish(attempt: CreationAttempt, organization: ClerkOrganization, *, just_created: bool) -> Tenant:
    """Mirror the organization with its creator.

    Where Clerk cannot say now who is in it, or does not know yet (a listing may lag behind a create),
    the creator has the creator role until the next sync. A creator who has left since has none.
    """
    membership, is_known = None, False
    try:
        membership = get_clerk_membership(organization.id, attempt.clerk_user_id)
        is_known = membership is not None or not just_created
    except ClerkError:
        logger.warning(
            "creator's membership of %s not read back; a sync will", organization.id, exc_info=True
        )
    if membership is None:
        leases.expire(attempt.clerk_user_id)
    role = None if is_known else _creator_role()
    return finish_creation(attempt, organization, membership, role)


def _creator_role() -> str:
    """The role that Clerk gives to creators; the least one when Clerk cannot be asked."""
    try:
        return get_clerk_organization_settings().creator_role or DEFAULT_CREATOR_ROLE
    except ClerkError:
        return LEAST_ROLE
