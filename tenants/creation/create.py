"""Create a tenant for a user: commit an attempt, send one POST to Clerk, then mirror the answer."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from django.db import transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import ClerkError
from clerk_integration.instance import get_clerk_organization_settings
from clerk_integration.organizations import create_clerk_org, get_clerk_membership, iter_clerk_orgs
from clerk_integration.wire.pace import take_slots
from tenants.creation import search
from tenants.exceptions import IdempotencyKeyReused, NotAMember, OrganizationDeleted, TenantInactive
from tenants.history import change_by
from tenants.lifecycle.primary import move_primary, set_primary
from tenants.mirror import leases, locks, writer
from tenants.models import CreationAttempt, Tenant

logger = logging.getLogger(__name__)

DEFAULT_CREATOR_ROLE = "org:admin"
"""Clerk's default for the role of an organization's creator."""

REQUESTS = 2
"""Requests of a creation: the POST and the GET of the creator's membership."""

MAX_WAIT_SECONDS = 1.0
"""The longest wait for the pace that creations share with migrations and batches; a person waits as long."""

LEAST_ROLE = "org:member"

NEW_KEY = "Nothing was created again; to create another one, send a new Idempotency-Key."


@dataclass(frozen=True, slots=True)
class Creation:
    """The organization that a user wants; the same `idempotency_key` means the same organization."""

    clerk_user_id: str
    name: str
    slug: str | None = None
    idempotency_key: str | None = None
    make_primary: bool = True

    @property
    def body_hash(self) -> str:
        """The SHA-256 of the name, the slug and, if it is not the default, `make_primary`."""
        body = [self.name, self.slug] if self.make_primary else [self.name, self.slug, False]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def create_in_clerk(creation: Creation) -> Tenant:
    """Create the organization in Clerk and mirror it, or return the tenant that the same key created.

    Writes the attempt, then tenant, membership, primary and attempt in one transaction. Calls Clerk: one
    POST, then one GET for the creator's membership; if the key's earlier outcome is unknown, a search first.
    Raise ClerkError (the attempt records whether the outcome is unknown), IdempotencyKeyInUse or
    IdempotencyKeyReused; OrganizationDeleted or TenantInactive if the key's tenant was deleted or
    deactivated since.
    """
    attempt = CreationAttempt.objects.begin(
        clerk_user_id=creation.clerk_user_id,
        body_hash=creation.body_hash,
        idempotency_key=creation.idempotency_key,
    )
    if attempt is None:
        attempt = CreationAttempt.objects.get(
            clerk_user_id=creation.clerk_user_id, idempotency_key=creation.idempotency_key
        )
        tenant = _created_before(attempt, creation)
        if tenant is not None:
            return tenant
    with recorded_failure(attempt):
        take_slots(REQUESTS, max_wait=MAX_WAIT_SECONDS)
        organization = create_clerk_org(
            creation.name,
            creation.clerk_user_id,
            creation.slug,
            marker={"attempt": str(attempt.marker)},
        )
    return _finish(attempt, creation, organization, just_created=True)


@contextmanager
def recorded_failure(attempt: CreationAttempt) -> Iterator[None]:
    """Record the attempt as failed or unknown if the block, which sends the POST, raises ClerkError.

    If the organization may exist, the user's next list asks Clerk, even if the last listing is fresh.
    """
    try:
        yield
    except ClerkError as error:
        state = CreationAttempt.State.UNKNOWN if error.outcome_unknown else CreationAttempt.State.FAILED
        attempt.settle(state, {"error": str(error)})
        if error.outcome_unknown:
            leases.expire(attempt.clerk_user_id)
        raise


def adopt_organization(
    clerk_user_id: str,
    organization: ClerkOrganization,
    membership: ClerkMembership | None,
    role: str | None = None,
    *,
    make_primary: bool = True,
) -> Tenant:
    """Mirror an organization with one of its members and, with `make_primary`, make it that member's primary.

    Writes tenant, membership (see `writer.write_organization_with_member`) and primary in one transaction.
    Raise OrganizationDeleted if the organization is recorded as deleted.
    """
    with change_by(clerk_user_id):
        locks.hold_primaries([clerk_user_id])
        tenant = writer.write_organization_with_member(organization, clerk_user_id, membership, role)
        if make_primary:
            with suppress(NotAMember, TenantInactive):
                move_primary(clerk_user_id, tenant.pk)
    return tenant


def _finish(
    attempt: CreationAttempt, creation: Creation, organization: ClerkOrganization, *, just_created: bool
) -> Tenant:
    """Mirror the organization with its creator, as the creator's primary if the creation says so.

    If Clerk cannot be asked for the creator's membership, or does not list it yet after the create, the
    creator gets the creator role until the next sync. A creator who has left gets no membership.
    """
    membership, is_known = None, False
    try:
        membership = get_clerk_membership(organization.id, attempt.clerk_user_id)
        is_known = membership is not None or not just_created
    except ClerkError as error:
        logger.warning(
            "The creator's membership of %s could not be read (%s). The next sync reads it.",
            organization.id,
            error,
        )
    if membership is None:
        leases.expire(attempt.clerk_user_id)
    role = None if is_known else _creator_role()
    with transaction.atomic():
        tenant = adopt_organization(
            attempt.clerk_user_id, organization, membership, role, make_primary=creation.make_primary
        )
        CreationAttempt.objects.filter(pk=attempt.pk).update(
            state=CreationAttempt.State.SUCCEEDED,
            answer={"tenant_id": tenant.pk, "clerk_org_id": organization.id, "primary": True},
        )
    return tenant


def _creator_role() -> str:
    """Return the role that Clerk gives to creators; LEAST_ROLE if Clerk cannot be asked."""
    try:
        return get_clerk_organization_settings().creator_role or DEFAULT_CREATOR_ROLE
    except ClerkError:
        return LEAST_ROLE


def _created_before(attempt: CreationAttempt, creation: Creation) -> Tenant | None:
    """Return the tenant of an earlier request with the same key; None if the POST must be sent again."""
    if attempt.body_hash != creation.body_hash:
        raise IdempotencyKeyReused("This Idempotency-Key was used for a different request.")
    if attempt.state == CreationAttempt.State.SUCCEEDED:
        return _tenant_of(attempt, creation)
    if attempt.state != CreationAttempt.State.FAILED:
        organization = _search(attempt)
        if organization is not None:
            return _finish(attempt, creation, organization, just_created=False)
    if not attempt.resume():
        raise search.in_progress(retry_after=1.0)
    return None


def _search(attempt: CreationAttempt) -> ClerkOrganization | None:
    """Search for the attempt's marker in the creator's organizations, then in all organizations."""
    try:
        return search.search(attempt, iter_clerk_orgs(user_id=attempt.clerk_user_id)) or search.search(
            attempt, iter_clerk_orgs(order_by="-created_at")
        )
    except ClerkError as error:
        # The outcome of the attempt is unknown, even if Clerk refused the search.
        error.outcome_unknown = True
        raise


def _tenant_of(attempt: CreationAttempt, creation: Creation) -> Tenant:
    """Return the tenant that a successful attempt created.

    Does not check that the caller is still a member; the queryset does.
    """
    clerk_org_id = (attempt.answer or {}).get("clerk_org_id", "")
    tenant = Tenant.objects.filter(clerk_org_id=clerk_org_id).first()
    if tenant is None or tenant.deleted_at is not None:
        raise OrganizationDeleted(
            f"The organization that this Idempotency-Key created was deleted. {NEW_KEY}"
        )
    members = tenant.memberships.filter(clerk_user_id=attempt.clerk_user_id, is_active=True)
    if not tenant.is_active and members.exists():
        raise TenantInactive(
            f"The tenant that this Idempotency-Key created is {tenant.status} now. {NEW_KEY}"
        )
    if creation.make_primary:
        _claim_primary(attempt, tenant)
    return tenant


def _claim_primary(attempt: CreationAttempt, tenant: Tenant) -> None:
    """Make the tenant its creator's primary, once, if a sync inserted the tenant before the create did.

    Writes `memberships.is_primary` and the attempt's `answer`, unless `answer` records an earlier call.
    """
    answer = attempt.answer or {}
    if answer.get("primary"):
        return
    with transaction.atomic():
        with suppress(NotAMember, TenantInactive):
            set_primary(attempt.clerk_user_id, tenant)
        CreationAttempt.objects.filter(pk=attempt.pk).update(answer={**answer, "primary": True})
