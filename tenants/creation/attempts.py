"""Record creation attempts: committed before the POST to Clerk, settled after it.

`tenants.mirror.writer` settles an attempt if an organization carries the attempt's marker.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkError
from tenants.mirror import leases
from tenants.models import CreationAttempt
from tenants.sql import ClockTimestamp

State = CreationAttempt.State

RETENTION = timedelta(days=90)
"""The time for which settled attempts, with their idempotency keys, are kept."""

BACKFILLED = "backfilled"
"""Key in the answer of a legacy tenant's attempt: its organization is linked and has its members."""


def begin_creation(
    *, clerk_user_id: str, body_hash: str, idempotency_key: str | None
) -> CreationAttempt | None:
    """Insert the attempt that must be committed before the POST to Clerk.

    Return None if the user's idempotency key has an attempt already.
    """
    attempt = CreationAttempt(
        clerk_user_id=clerk_user_id, body_hash=body_hash, idempotency_key=idempotency_key
    )
    created = CreationAttempt.objects.bulk_create([attempt], ignore_conflicts=True)
    return CreationAttempt.objects.filter(marker=created[0].marker).first()


def resume_creation(attempt: CreationAttempt) -> bool:
    """Set an attempt that created nothing to `sent`; return False if another process did so first.

    Writes `state`, `sent_at` and `answer`, if the attempt is unchanged since it was read.
    """
    unchanged = CreationAttempt.objects.filter(pk=attempt.pk, state=attempt.state, sent_at=attempt.sent_at)
    if not unchanged.update(state=State.SENT, sent_at=ClockTimestamp(), answer=None):
        return False
    attempt.refresh_from_db()
    return True


def settle_creation(attempt: CreationAttempt, state: CreationAttempt.State, answer: dict[str, Any]) -> None:
    """Record the outcome of the POST: `failed`, `unknown`, or `succeeded` before the tenant is linked."""
    sent = CreationAttempt.objects.filter(pk=attempt.pk, state=State.SENT, sent_at=attempt.sent_at)
    sent.update(state=state, answer=answer)


def fail_creations(*, sent_before: datetime) -> int:
    """Set the unresolved creations sent before `sent_before` to `failed`; return their number.

    Call it after all organizations in Clerk were searched and the found ones were mirrored.
    """
    unresolved = CreationAttempt.objects.filter(state__in=CreationAttempt.UNRESOLVED, sent_at__lt=sent_before)
    return unresolved.update(state=State.FAILED)


def close_backfill(attempt: CreationAttempt, organization: ClerkOrganization) -> None:
    """Record that the organization made for a legacy tenant is linked and has its members."""
    CreationAttempt.objects.filter(pk=attempt.pk).update(
        state=State.SUCCEEDED, answer={"clerk_org_id": organization.id, BACKFILLED: True}
    )


@contextmanager
def recorded_failure(attempt: CreationAttempt) -> Iterator[None]:
    """Record the attempt as failed or unknown if the block, which sends the POST, raises ClerkError.

    If the organization may exist, the user's next list asks Clerk, even if the last listing is fresh.
    """
    try:
        yield
    except ClerkError as error:
        state = State.UNKNOWN if error.outcome_unknown else State.FAILED
        settle_creation(attempt, state, {"error": str(error)})
        if error.outcome_unknown:
            leases.expire(attempt.clerk_user_id)
        raise


def delete_old_attempts() -> int:
    """Delete the attempts that are settled and older than RETENTION; return how many."""
    settled = [CreationAttempt.State.SUCCEEDED, CreationAttempt.State.FAILED]
    return CreationAttempt.objects.filter(
        state__in=settled, created_at__lt=ClockTimestamp() - RETENTION
    ).delete()[0]
