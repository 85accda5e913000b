"""Record creation attempts: committed before the POST to Clerk, settled after it."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkError
from tenants.models import CreationAttempt
from tenants.sql import execute, query

SETTLE_FOUND = """
UPDATE creation_attempts AS attempt
SET state = 'succeeded',
    answer = jsonb_build_object('tenant_id', tenants.id, 'clerk_org_id', tenants.clerk_org_id)
FROM jsonb_to_recordset(%(markers)s::jsonb) AS found(marker uuid, organization_id text)
JOIN tenants ON tenants.clerk_org_id = found.organization_id
WHERE attempt.marker = found.marker AND attempt.state IN ('sent', 'unknown')
"""


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
    """Make an attempt that created nothing `sent` again; False when somebody else was faster.

    Writes `state`, `sent_at` and a clean `answer`, on the condition that both stand as they were read.
    """
    resumed = query(
        "UPDATE creation_attempts SET state = 'sent', sent_at = clock_timestamp(), answer = NULL"
        " WHERE id = %(id)s AND state = %(state)s AND sent_at = %(sent_at)s RETURNING sent_at",
        id=attempt.pk,
        state=attempt.state,
        sent_at=attempt.sent_at,
    )
    for (sent_at,) in resumed:
        attempt.state, attempt.sent_at, attempt.answer = CreationAttempt.State.SENT, sent_at, None
    return bool(resumed)


def settle_creation(
    attempt: CreationAttempt, state: CreationAttempt.State, answer: dict[str, Any] | None
) -> None:
    """Record how Clerk answered: `failed`, `unknown`, or `succeeded` with the link still to come."""
    sent = CreationAttempt.objects.filter(
        pk=attempt.pk, state=CreationAttempt.State.SENT, sent_at=attempt.sent_at
    )
    sent.update(state=state, answer=answer)


def settle_found(markers: Sequence[Mapping[str, str]]) -> None:
    """Record what became of unresolved creations whose organization was found and is mirrored.

    `markers` are those of `facts.attempt_markers`. Writes `creation_attempts` in one statement.
    """
    execute(SETTLE_FOUND, markers=json.dumps(markers))


def fail_creations(*, sent_before: datetime) -> int:
    """Record that the unresolved creations sent before that moment created nothing; return how many.

    For who has searched all of Clerk since, and has settled what was found. Writes
    `creation_attempts` in one statement.
    """
    open_states = [CreationAttempt.State.SENT, CreationAttempt.State.UNKNOWN]
    return CreationAttempt.objects.filter(state__in=open_states, sent_at__lt=sent_before).update(
        state=CreationAttempt.State.FAILED
    )


def close_backfill(attempt: CreationAttempt, organization: ClerkOrganization) -> None:
    """Record that the organization made for a legacy tenant is linked and has its members."""
    CreationAttempt.objects.filter(pk=attempt.pk).update(
        state=CreationAttempt.State.SUCCEEDED, answer={"clerk_org_id": organization.id, BACKFILLED: True}
    )


def send(
    attempt: CreationAttempt, post: Callable[[Mapping[str, str]], ClerkOrganization]
) -> ClerkOrganization:
    """Call `post` with the attempt's marker; record the attempt as failed or unknown when it raises.

    Writes `creation_attempts`. Raise what `post` raises.
    """
    try:
        return post({"attempt": str(attempt.marker)})
    except ClerkError as error:
        state = CreationAttempt.State.UNKNOWN if may_exist(error) else CreationAttempt.State.FAILED
        settle_creation(attempt, state, {"error": str(error)})
        raise


def may_exist(error: ClerkError) -> bool:
    """Whether Clerk may have created the organization although it did not say so."""
    return error.outcome_unknown
