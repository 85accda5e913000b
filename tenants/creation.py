"""Creating a tenant for a user: in Clerk first, with an attempt on record before the one POST."""

import hashlib
import json
import logging
from dataclasses import dataclass

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import ClerkError
from clerk_integration.organizations import create_clerk_org, get_clerk_membership, iter_clerk_orgs
from tenants import attempts, transitions
from tenants.exceptions import IdempotencyKeyReused
from tenants.models import CreationAttempt, Tenant

logger = logging.getLogger(__name__)

DEFAULT_CREATOR_ROLE = "org:admin"
"""Clerk's creator role unless the instance was told otherwise."""


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
    IdempotencyKeyReused.
    """
    attempt = transitions.begin_creation(
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
    organization = attempts.send(
        attempt,
        lambda marker: create_clerk_org(creation.name, creation.clerk_user_id, creation.slug, marker=marker),
    )
    return _finish(attempt, organization)


def _settled(attempt: CreationAttempt, creation: Creation) -> Tenant | None:
    """What an earlier request with the same key came to; None when the attempt is ours to send again."""
    if attempt.body_hash != creation.body_hash:
        raise IdempotencyKeyReused("This Idempotency-Key was used for a different request.")
    if attempt.state == CreationAttempt.State.SUCCEEDED:
        return _created_before(attempt)
    if attempt.state != CreationAttempt.State.FAILED:
        organization = attempts.search(attempt, iter_clerk_orgs(user_id=attempt.clerk_user_id))
        if organization is not None:
            return _finish(attempt, organization)
    if not transitions.resume_creation(attempt):
        raise attempts.in_progress(retry_after=1.0)
    return None


def _created_before(attempt: CreationAttempt) -> Tenant:
    clerk_org_id = (attempt.answer or {}).get("clerk_org_id")
    tenant = Tenant.objects.filter(clerk_org_id=clerk_org_id).first()
    if tenant is None:
        raise IdempotencyKeyReused("The tenant that this Idempotency-Key created no longer exists.")
    return tenant


def _finish(attempt: CreationAttempt, organization: ClerkOrganization) -> Tenant:
    membership = _read_creator(organization, attempt.clerk_user_id)
    return transitions.finish_creation(attempt, organization, membership, DEFAULT_CREATOR_ROLE)


def _read_creator(organization: ClerkOrganization, clerk_user_id: str) -> ClerkMembership | None:
    """The creator's membership with the role that Clerk gave it; None when Clerk cannot say now."""
    try:
        return get_clerk_membership(organization.id, clerk_user_id)
    except ClerkError:
        logger.warning(
            "creator's membership of %s not read back; a sync will", organization.id, exc_info=True
        )
        return None
