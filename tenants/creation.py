"""Creating a tenant in Clerk first: one POST, and an attempt on record before it.

Clerk knows no idempotency key for organizations. An attempt whose reply was lost is therefore
looked for by its marker (in the organization's private metadata) before anything is sent again, and
"not there" counts only for a search begun `UNRESOLVED_SECONDS` after the attempt.
"""

import hashlib
import json
import logging
from dataclasses import dataclass

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import ClerkError, ClerkProtocolError, ClerkUnavailable
from clerk_integration.organizations import create_clerk_org, get_clerk_membership, iter_clerk_orgs
from tenants import sync, transitions
from tenants.exceptions import IdempotencyKeyInUse, IdempotencyKeyReused
from tenants.models import CreationAttempt, Tenant

logger = logging.getLogger(__name__)

UNRESOLVED_SECONDS = 60.0
"""How long an organization may stay invisible to a listing after it was created, at the most."""

IN_FLIGHT_SECONDS = 15.0
"""How long the process that sent an attempt may still be busy with it; then it is taken for dead."""

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
    try:
        organization = create_clerk_org(
            creation.name,
            creation.clerk_user_id,
            creation.slug,
            marker={"attempt": str(attempt.marker)},
        )
    except ClerkError as error:
        state = CreationAttempt.State.UNKNOWN if _may_exist(error) else CreationAttempt.State.FAILED
        transitions.settle_creation(attempt, state, {"error": str(error)})
        raise
    return _finish(attempt, organization)


def _settled(attempt: CreationAttempt, creation: Creation) -> Tenant | None:
    """What an earlier request with the same key came to; None when the attempt is ours to send again."""
    if attempt.body_hash != creation.body_hash:
        raise IdempotencyKeyReused("This Idempotency-Key was used for a different request.")
    if attempt.state == CreationAttempt.State.SUCCEEDED:
        return _created_before(attempt)
    if attempt.state != CreationAttempt.State.FAILED:
        tenant = _resolve(attempt)
        if tenant is not None:
            return tenant
    if not transitions.resume_creation(attempt):
        raise IdempotencyKeyInUse("Another request with this Idempotency-Key is running.", retry_after=1.0)
    return None


def _resolve(attempt: CreationAttempt) -> Tenant | None:
    """Look for the attempt's organization; None when it is certain that there is none."""
    age = (sync.clock() - attempt.sent_at).total_seconds()
    if attempt.state == CreationAttempt.State.SENT and age < IN_FLIGHT_SECONDS:
        raise IdempotencyKeyInUse("Another request with this Idempotency-Key is running.", retry_after=1.0)
    for organization in iter_clerk_orgs(user_id=attempt.clerk_user_id):
        if sync.attempt_marker(organization) == attempt.marker:
            return _finish(attempt, organization)
    if age < UNRESOLVED_SECONDS:
        raise IdempotencyKeyInUse(
            "It is not known yet whether Clerk created the organization. Nothing was sent again.",
            retry_after=UNRESOLVED_SECONDS - age,
        )
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


def _may_exist(error: ClerkError) -> bool:
    """Whether Clerk may have created the organization although it did not say so."""
    if isinstance(error, ClerkUnavailable):
        return error.outcome_unknown
    return isinstance(error, ClerkProtocolError)
