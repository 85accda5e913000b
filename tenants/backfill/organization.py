"""One organization in Clerk for a legacy tenant, and never two.

A tenant has a single attempt on record, kept single by the database and committed before the POST.
The organization carries the attempt's marker, the tenant and this database in its private metadata,
so that one whose reply was lost is found and adopted instead of created again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Q

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkRejected
from clerk_integration.organizations import create_clerk_org, get_clerk_org
from clerk_integration.wire.deadlines import default_deadline
from clerk_integration.wire.pace import await_turn
from tenants.creation import attempts, search
from tenants.creation.installation import installation_id
from tenants.models import CreationAttempt, Tombstone

CALLER = "backfill"
"""Stands for the caller in our attempts; no Clerk user has this id, so no request can meet our keys."""

SLUGS_DISABLED = "organization_slugs_disabled"
"""Clerk's code for a slug sent to an instance that has none, the default for new instances."""


State = CreationAttempt.State

Search = Callable[[CreationAttempt], ClerkOrganization | None]
"""Looks for what an attempt of unknown outcome has created; None when there is certainly nothing."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The organization that a tenant is to get; `owner` becomes its first member."""

    tenant_id: int
    name: str
    owner: str
    slug: str | None = None
    max_allowed_memberships: int | None = None


def attempt_for(tenant_id: int) -> CreationAttempt | None:
    """Return the tenant's attempt, if there was one."""
    return CreationAttempt.objects.filter(clerk_user_id=CALLER, idempotency_key=_key(tenant_id)).first()


def attempts_for(tenant_ids: list[int]) -> dict[int, CreationAttempt]:
    """Return the attempts of the tenants that had one."""
    found = CreationAttempt.objects.filter(
        clerk_user_id=CALLER, idempotency_key__in=map(_key, tenant_ids)
    ).in_bulk(field_name="marker")
    return {tenant_of(attempt): attempt for attempt in found.values()}


def is_unfinished(attempt: CreationAttempt) -> bool:
    """Whether the organization, its members or the link may still be to come, whoever settled the attempt."""
    return attempt.state != State.FAILED and not (attempt.answer or {}).get(attempts.BACKFILLED)


def unfinished_attempts() -> list[CreationAttempt]:
    """Return the attempts of which `is_unfinished` is true."""
    mine = CreationAttempt.objects.filter(clerk_user_id=CALLER).exclude(state=State.FAILED)
    return list(mine.filter(Q(answer__isnull=True) | ~Q(answer__has_key=attempts.BACKFILLED)))


def tenant_of(attempt: CreationAttempt) -> int:
    """Return the id of the tenant that the attempt is for."""
    return int(str(attempt.idempotency_key).partition(":")[2])


def create_or_find(draft: Draft, search: Search) -> tuple[ClerkOrganization, bool]:
    """Return the tenant's organization, and whether it was created by this call.

    Writes the attempt. Calls Clerk: one POST, or what it takes to find what an earlier call has
    created. Raise IdempotencyKeyInUse when somebody else is at it or its outcome is not known yet,
    and ClerkError; the next call goes on from there.
    """
    attempt = attempt_for(draft.tenant_id)
    if attempt is not None:
        organization = _created_before(attempt, search)
        if organization is not None:
            return _adopted(attempt, organization), False
    # The time of the attempt and the POST belong together: no waiting in between.
    await_turn()
    with default_deadline(JOB_TIMEOUT_SECONDS):
        return _send(_begun(draft, attempt), draft, search)


def adopt(tenant_id: int, attempt: CreationAttempt | None, clerk_org_id: str) -> ClerkOrganization:
    """Fetch an organization that was created for the tenant, and record it, whatever is on record.

    `attempt` is the tenant's as it was read. The database may know less than Clerk: after a restore
    it has no attempt, or one that had created nothing yet. Writes the attempt. Raise ClerkNotFound
    when the organization is gone, IdempotencyKeyInUse when somebody else is at it, and ClerkError.
    """
    with default_deadline(JOB_TIMEOUT_SECONDS):
        organization = get_clerk_org(clerk_org_id)
    if attempt is not None:
        return _adopted(attempt, organization)
    begun = _begin(tenant_id)
    if begun is None:
        raise search.in_progress(retry_after=search.IN_FLIGHT_SECONDS)
    return _settle(begun, organization)


def created_by(attempt: CreationAttempt | None) -> str | None:
    """Return the id of what an attempt has created, as far as it is on record and not dead."""
    if attempt is None or attempt.state != State.SUCCEEDED:
        return None
    clerk_org_id = str((attempt.answer or {})["clerk_org_id"])
    return None if is_dead(clerk_org_id) else clerk_org_id


def is_dead(clerk_org_id: str) -> bool:
    """Whether it is on record that the organization was deleted in Clerk."""
    return Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=clerk_org_id).exists()


def _created_before(attempt: CreationAttempt, search: Search) -> ClerkOrganization | None:
    """What an earlier call has created; None when it is certain that there is nothing."""
    if attempt.state == State.FAILED:
        return None
    if attempt.state == State.SUCCEEDED:
        clerk_org_id = created_by(attempt)
        return None if clerk_org_id is None else get_clerk_org(clerk_org_id)
    return search(attempt)


def _adopted(attempt: CreationAttempt, organization: ClerkOrganization) -> ClerkOrganization:
    if not attempts.resume_creation(attempt):
        raise search.in_progress(retry_after=search.IN_FLIGHT_SECONDS)
    return _settle(attempt, organization)


def _begun(draft: Draft, earlier: CreationAttempt | None) -> CreationAttempt:
    """The attempt as it must be on record before the POST; nobody else has it at the same time."""
    if earlier is None:
        attempt = _begin(draft.tenant_id)
    else:
        attempt = earlier if attempts.resume_creation(earlier) else None
    if attempt is None:
        raise search.in_progress(retry_after=search.IN_FLIGHT_SECONDS)
    return attempt


def _begin(tenant_id: int) -> CreationAttempt | None:
    # No body hash: what is wanted is this tenant's organization, also after the tenant was renamed.
    return attempts.begin_creation(clerk_user_id=CALLER, body_hash="", idempotency_key=_key(tenant_id))


def _send(attempt: CreationAttempt, draft: Draft, search: Search) -> tuple[ClerkOrganization, bool]:
    try:
        organization = attempts.send(attempt, lambda marker: _post(draft, marker))
    except ClerkRejected as refusal:
        if draft.slug is None or refusal.code != SLUGS_DISABLED:
            raise
        return create_or_find(replace(draft, slug=None), search)
    return _settle(attempt, organization), True


def _post(draft: Draft, marker: Mapping[str, Any]) -> ClerkOrganization:
    return create_clerk_org(
        draft.name,
        draft.owner,
        draft.slug,
        marker={**marker, "tenant": draft.tenant_id, "installation": str(installation_id())},
        max_allowed_memberships=draft.max_allowed_memberships,
    )


def _settle(attempt: CreationAttempt, organization: ClerkOrganization) -> ClerkOrganization:
    attempts.settle_creation(attempt, State.SUCCEEDED, {"clerk_org_id": organization.id})
    return organization


def _key(tenant_id: int) -> str:
    return f"tenant:{tenant_id}"
