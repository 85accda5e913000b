"""Find the creation attempts of legacy tenants: one for each tenant, with the tenant's id in its key."""

from collections.abc import Collection

from django.db.models import Q

from clerk_integration.entities import ClerkOrganization
from tenants.models import CreationAttempt

CALLER = "backfill"
"""The `clerk_user_id` of these attempts. No Clerk user has this id, so no request can use the same keys."""

BACKFILLED = "backfilled"
"""Key in the answer of an attempt: its organization is linked and has its members."""

State = CreationAttempt.State


def key_for(tenant_id: int) -> str:
    """Return the idempotency key of the tenant's attempt."""
    return f"tenant:{tenant_id}"


def tenant_of(attempt: CreationAttempt) -> int:
    """Return the id of the tenant that the attempt is for."""
    return int(str(attempt.idempotency_key).partition(":")[2])


def attempt_for(tenant_id: int) -> CreationAttempt | None:
    """Return the tenant's attempt, if there is one."""
    return attempts_for([tenant_id]).get(tenant_id)


def attempts_for(tenant_ids: Collection[int]) -> dict[int, CreationAttempt]:
    """Return the attempts of the tenants that have one."""
    keys = map(key_for, tenant_ids)
    found = CreationAttempt.objects.filter(clerk_user_id=CALLER, idempotency_key__in=keys)
    return {tenant_of(attempt): attempt for attempt in found}


def is_unfinished(attempt: CreationAttempt) -> bool:
    """Return whether the organization, its members or the link may still be missing."""
    return attempt.state != State.FAILED and not (attempt.answer or {}).get(BACKFILLED)


def unfinished_attempts() -> list[CreationAttempt]:
    """Return all attempts for which `is_unfinished` is true."""
    ours = CreationAttempt.objects.filter(clerk_user_id=CALLER).exclude(state=State.FAILED)
    return list(ours.filter(Q(answer__isnull=True) | ~Q(answer__has_key=BACKFILLED)))


def close_for(tenant_id: int, organization: ClerkOrganization) -> None:
    """Record in the tenant's attempt, if any, that its organization is linked and has its members."""
    CreationAttempt.objects.filter(clerk_user_id=CALLER, idempotency_key=key_for(tenant_id)).update(
        state=State.SUCCEEDED, answer={"clerk_org_id": organization.id, BACKFILLED: True}
    )


def created_by(attempt: CreationAttempt | None) -> str | None:
    """Return the id of the organization that the attempt created, even if it is deleted; None if none."""
    if attempt is None or attempt.state != State.SUCCEEDED:
        return None
    return str((attempt.answer or {})["clerk_org_id"])
