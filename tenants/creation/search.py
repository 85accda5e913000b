"""Find the organization of a creation attempt whose reply was lost.

Clerk has no idempotency key for organizations. Each organization therefore carries the marker of its
attempt in its private metadata. A search that does not find the marker proves that nothing was created
only if it was complete and began `UNRESOLVED_SECONDS` after the attempt was sent.
"""

from datetime import datetime

from clerk_integration.entities import ClerkOrganization
from clerk_integration.wire.passes import ClerkListing
from tenants.exceptions import IdempotencyKeyInUse
from tenants.mirror import writer
from tenants.mirror.rows import attempt_marker
from tenants.models import CreationAttempt

UNRESOLVED_SECONDS = 60.0
"""The longest time after a creation for which a list may lack the organization."""

IN_FLIGHT_SECONDS = 45.0
"""The longest time for which the process that sent an attempt may still be working on it."""


def is_due(attempt: CreationAttempt, now: datetime) -> bool:
    """Return whether a job that runs every minute should search for the attempt now.

    A search is due 1, 2, 4, 8, ... minutes after the attempt was sent, so that an attempt that stays unknown
    needs only a few searches. The times have no random part, because one job at a time searches for all
    attempts together, on whatever number of workers. An attempt whose minute a late job misses is searched
    for at its next time.
    """
    minutes = int((now - attempt.sent_at).total_seconds() // UNRESOLVED_SECONDS)
    return minutes > 0 and minutes & (minutes - 1) == 0


def search(attempt: CreationAttempt, listing: ClerkListing[ClerkOrganization]) -> ClerkOrganization | None:
    """Return the attempt's organization; None if it is certain that Clerk has none.

    Raise IdempotencyKeyInUse while the sender may still be working on the attempt, or if nothing is certain.
    """
    # Negative after the clock was set back; a job then corrects `sent_at` within a minute.
    age = max(0.0, (writer.clock() - attempt.sent_at).total_seconds())
    if attempt.state == CreationAttempt.State.SENT and age < IN_FLIGHT_SECONDS:
        raise in_progress(retry_after=IN_FLIGHT_SECONDS - age)
    for organization in listing:
        if attempt_marker(organization) == attempt.marker:
            return organization
    if age < UNRESOLVED_SECONDS or not listing.complete:
        wait = max(UNRESOLVED_SECONDS - age, IN_FLIGHT_SECONDS)
        raise IdempotencyKeyInUse(
            "It is not known yet whether Clerk has created the organization; nothing was sent again."
            f" Try again in {wait:.0f} s.",
            retry_after=wait,
        )
    return None


def in_progress(*, retry_after: float) -> IdempotencyKeyInUse:
    """Return the exception for an attempt that another process is working on."""
    return IdempotencyKeyInUse(
        "Another request is creating this organization right now; nothing was sent again."
        f" Try again in {retry_after:.0f} s.",
        retry_after=retry_after,
    )
