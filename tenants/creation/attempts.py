"""Record creation attempts: committed before the POST to Clerk, settled after it.

`tenants.mirror.writer` settles those whose marker it meets on an organization.
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
"""How long settled attempts, and with them idempotency keys, are kept."""

BACKFILLED = "backfilled"
"""Key in the answer of a legacy tenant's attempt: its organization is linked and has its members."""


def begin_creation(
    *, clerk_user_id: str, body_hash: str, idempotency_key: str | None
) -> CreationAttempt | None:
    """Insert the attempt that must be committed before the POST to Clerk.

    Return None when the user's idempotency key has an attempt already.
    """
    attempt = CreationAttempt(
        clerk_user_id=clerk_user_id, body_hash=body_hash, idempotency_key=idempotency_key
    )
    created = CreationAttempt.objects.bulk_create([attempt], ignore_conflicts=True)
    return CreationAttempt.objects.filter(marker=created[0].marker).first()


def resume_creation(attempt: CreationAttempt) -> bool:
    """Make an attempt that created nothing `sent` again; return False when another process was faster.

    Writes `state`, `sent_at` and `answer`, if the attempt is unchanged since it was read.
    """
    unchanged = CreationAttempt.objects.filter(pk=attempt.pk, state=attempt.state, sent_at=attempt.sent_at)
    if not unchanged.update(state=State.SENT, sent_at=ClockTimestamp(), answer=None):
        return False
    attempt.refresh_from_db()
    return True


def settle_creation(attempt: CreationAttempt, state: CreationAttempt.State, answer: dict[str, Any]) -> None:
    """Record how Clerk answered: `failed`, `unknown`, or `succeeded` with the link still to come."""
    sent = CreationAttempt.objects.filter(pk=attempt.pk, state=State.SENT, sent_at=attempt.sent_at)
    sent.update(state=state, answer=answer)


def fail_creations(*, sent_before: datetime) -> int:
    """Record that the unresolved creations sent before that time created nothing; return their number.

    Call it after all of Clerk was searched, and what was found was mirrored.
    """
    unresolved = CreationAttempt.objects.filter(
        state__in=[State.SENT, State.UNKNOWN], sent_at__lt=sent_before
    )
    return unresolved.update(state=State.FAILED)


def close_backfill(attempt: CreationAttempt, organization: ClerkOrganization) -> None:
    """Record that the organization made for a legacy tenant is linked and has its members."""
    CreationAttempt.objects.filter(pk=attempt.pk).update(
        state=State.SUCCEEDED, answer={"clerk_org_id": organization.id, BACKFILLED: True}
    )


@contextmanager
def recorded_failure(attempt: CreationAttempt) -> Iterator[None]:
    """Record the attempt as failed or unknown if the block, which sends it, raises ClerkError.

    If the organization may exist, the user's next list asks Clerk, however fresh the last one is.
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
