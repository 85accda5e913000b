"""Get or create the one organization of a legacy tenant in Clerk.

A tenant has a single creation attempt, which is unique in the database and committed before the POST.
The private metadata of the organization contains the attempt's marker, the tenant and this database. If
the reply was lost, the next call finds the organization by its marker and adopts it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkNotFound, ClerkRejected
from clerk_integration.organizations import create_clerk_org, get_clerk_org
from clerk_integration.wire.deadlines import default_deadline
from clerk_integration.wire.pace import await_slot
from tenants.backfill.attempts import CALLER, attempt_for, created_by, key_for
from tenants.backfill.snapshot import ClerkSnapshot
from tenants.creation import search
from tenants.creation.create import recorded_failure
from tenants.creation.installation import installation_id
from tenants.exceptions import AmbiguousMarker, IdempotencyKeyInUse
from tenants.mirror import writer
from tenants.models import CreationAttempt, Tombstone

SLUGS_DISABLED = "organization_slugs_disabled"
"""Clerk's code for a slug sent to an instance that has slugs disabled, the default for new instances."""

State = CreationAttempt.State

FindSnapshot = Callable[[CreationAttempt], ClerkSnapshot]
"""Returns a snapshot of Clerk that is late enough to contain the organization of the attempt."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The organization to create for a tenant; `owner` becomes its first member.

    `owner_is_member`: the owner was chosen among the tenant's owners and admins, not named by a person.
    `adds_members`: the tenant's other members become members of the organization, too.
    """

    tenant_id: int
    name: str
    owner: str
    slug: str | None = None
    max_allowed_memberships: int | None = None
    owner_is_member: bool = False
    adds_members: bool = True


def get_or_create(
    draft: Draft,
    attempt: CreationAttempt | None,
    clerk_org_id: str | None,
    find_snapshot: FindSnapshot,
) -> tuple[ClerkOrganization, bool]:
    """Return the tenant's organization, and whether this call created it.

    `clerk_org_id` is the organization that the caller found by its marker, if any. `find_snapshot` is
    called only if the outcome of an earlier POST is unknown. Write the attempt. Call Clerk: one POST, or
    one GET for an organization that exists. Raise IdempotencyKeyInUse if another process is working on the
    tenant or if the outcome cannot be known yet, ClerkNotFound if the organization was deleted, and
    ClerkError. A repeated call resumes the work.
    """
    recorded = created_by(attempt)
    found = recorded if recorded and not deleted_among([recorded]) else clerk_org_id
    if found is None and attempt is not None and attempt.state in CreationAttempt.UNRESOLVED:
        found = _search(draft.tenant_id, attempt, find_snapshot)
    if found is not None:
        return _adopt(draft, attempt, found), False
    return _create(draft, attempt), True


def find_by_marker(
    tenant_id: int,
    attempt: CreationAttempt | None,
    snapshot: ClerkSnapshot,
    deleted: Collection[str] | None = None,
) -> ClerkOrganization | None:
    """Return the organization that carries the marker of the tenant or of its attempt; None if none does.

    Ignore organizations that are recorded as deleted. `deleted` contains their ids if the caller has
    already read them. Raise AmbiguousMarker if several organizations are left.
    """
    found = snapshot.with_marker(tenant_id, attempt)
    if deleted is None:
        deleted = deleted_among([organization.id for organization in found])
    living = [organization for organization in found if organization.id not in deleted]
    if len(living) > 1:
        ids = ", ".join(organization.id for organization in living)
        raise AmbiguousMarker(
            f"{ids} carry this tenant's marker. Delete all but one of them in Clerk, then try again."
        )
    return living[0] if living else None


def refuse_in_flight(attempt: CreationAttempt) -> None:
    """Raise IdempotencyKeyInUse while another process may still be working on the attempt."""
    age = (writer.clock() - attempt.sent_at).total_seconds()
    if age < search.IN_FLIGHT_SECONDS:
        raise search.in_progress(retry_after=search.IN_FLIGHT_SECONDS - age)


def deleted_among(clerk_org_ids: Collection[str]) -> set[str]:
    """Return the ids in `clerk_org_ids` that are recorded as deleted in Clerk."""
    deleted = Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id__in=clerk_org_ids)
    return set(deleted.values_list("clerk_id", flat=True))


def _search(tenant_id: int, attempt: CreationAttempt, find_snapshot: FindSnapshot) -> str | None:
    """Return the organization that an attempt of unknown outcome created; None if it created none."""
    if attempt.state == State.SENT:
        refuse_in_flight(attempt)
    wait = search.UNRESOLVED_SECONDS - (writer.clock() - attempt.sent_at).total_seconds()
    snapshot = find_snapshot(attempt) if wait <= 0 else None
    found = None if snapshot is None else find_by_marker(tenant_id, attempt, snapshot)
    if found is not None:
        return found.id
    if snapshot is None or not snapshot.complete:
        raise IdempotencyKeyInUse(
            "An earlier run asked Clerk to create this tenant's organization and got no answer. It is not"
            " known yet whether Clerk created it. Nothing was sent again; try again in a minute.",
            retry_after=max(0.0, wait),
        )
    return None


def _adopt(draft: Draft, attempt: CreationAttempt | None, clerk_org_id: str) -> ClerkOrganization:
    """Fetch an organization that exists, and record it in the attempt.

    After a restore from a backup, the attempt may be missing or lack the organization that it created.
    """
    try:
        with default_deadline(JOB_TIMEOUT_SECONDS):
            organization = get_clerk_org(clerk_org_id)
    except ClerkNotFound as missing:
        raise ClerkNotFound(
            f"Clerk does not know {clerk_org_id}, which was created for this tenant: it was deleted, or"
            " CLERK_SECRET_KEY is the key of another instance. Nothing was created again. Run"
            f" `sync_from_clerk --organization {clerk_org_id}` to record the deletion, then try again."
        ) from missing
    return _settle(_claim(draft, attempt), organization)


def _create(draft: Draft, attempt: CreationAttempt | None) -> ClerkOrganization:
    # Wait for the slot first: nothing may delay the POST after the attempt has its timestamp.
    await_slot()
    with default_deadline(JOB_TIMEOUT_SECONDS):
        claimed = _claim(draft, attempt)
        try:
            with recorded_failure(claimed):
                organization = _post(draft, {"attempt": str(claimed.marker)})
        except ClerkRejected as refusal:
            if draft.slug is None or refusal.code != SLUGS_DISABLED:
                raise
            return _create(replace(draft, slug=None), attempt_for(draft.tenant_id))
        return _settle(claimed, organization)


def _claim(draft: Draft, attempt: CreationAttempt | None) -> CreationAttempt:
    """Record the attempt as sent, or begin one; raise IdempotencyKeyInUse if another process changed it."""
    if attempt is None:
        # No body hash: after a rename of the tenant, the same attempt must continue.
        attempt = CreationAttempt.objects.begin(
            clerk_user_id=CALLER,
            body_hash="",
            idempotency_key=key_for(draft.tenant_id),
            adds_members=draft.adds_members,
        )
    elif not attempt.resume(adds_members=draft.adds_members):
        attempt = None
    if attempt is None:
        raise search.in_progress(retry_after=search.IN_FLIGHT_SECONDS)
    return attempt


def _post(draft: Draft, marker: Mapping[str, Any]) -> ClerkOrganization:
    return create_clerk_org(
        draft.name,
        draft.owner,
        draft.slug,
        marker={**marker, "tenant": draft.tenant_id, "installation": str(installation_id())},
        max_allowed_memberships=draft.max_allowed_memberships,
    )


def _settle(attempt: CreationAttempt, organization: ClerkOrganization) -> ClerkOrganization:
    attempt.settle(State.SUCCEEDED, {"clerk_org_id": organization.id})
    return organization
