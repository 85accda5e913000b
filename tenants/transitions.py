"""The only writer of own columns: one function per state change.

Nothing here calls Clerk. What must hold together with mirrored columns is written through
`tenants.sync` inside the same transaction.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants import signals, sync
from tenants.absorption import absorb_mirror_of
from tenants.cursors import execute, query
from tenants.exceptions import AlreadyLinked, NotAMember, OrganizationDeleted, TenantInactive
from tenants.models import CreationAttempt, Membership, Tenant, Tombstone

PRIMARY_LOCK = 0x636C6B02
"""First key of the advisory lock under which one user's primary moves; any constant of ours will do."""

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


def create_local_tenant(*, name: str, slug: str | None, clerk_org_id: str | None) -> Tenant:
    """Insert a tenant without asking Clerk.

    Raise OrganizationDeleted when the id is dead in Clerk, AlreadyLinked when another tenant has it.
    """
    with transaction.atomic():
        if clerk_org_id is not None:
            sync.share_writers_lock()
            _refuse_dead(clerk_org_id)
            _refuse_linked(clerk_org_id)
        try:
            with transaction.atomic():
                return Tenant.objects.create(name=name, slug=slug, clerk_org_id=clerk_org_id)
        except IntegrityError:
            raise AlreadyLinked(f"{clerk_org_id} belongs to another tenant.") from None


def set_primary(clerk_user_id: str, tenant: Tenant) -> None:
    """Make the tenant the user's primary. Writes `memberships.is_primary`, of this user only.

    Raise NotAMember without an active membership, TenantInactive when the tenant is not active.
    """
    with transaction.atomic():
        _lock_primary(clerk_user_id)
        sync.share_writers_lock()
        _move_primary(clerk_user_id, tenant.pk)


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


def finish_creation(
    attempt: CreationAttempt,
    organization: ClerkOrganization,
    membership: ClerkMembership | None,
    role: str | None,
) -> Tenant:
    """Mirror the organization that Clerk created, with its creator, as the creator's primary.

    Writes tenant, membership and attempt in one transaction. Without a `membership` (Clerk could
    not be asked for it) the creator gets `role` locally, until a sync brings Clerk's own record;
    without both (Clerk says that there is none) nothing.
    """
    with transaction.atomic():
        tenant = adopt_organization(attempt.clerk_user_id, organization, membership, role)
        CreationAttempt.objects.filter(pk=attempt.pk).update(
            state=CreationAttempt.State.SUCCEEDED,
            answer={"tenant_id": tenant.pk, "clerk_org_id": organization.id, "primary": True},
        )
    return tenant


def claim_primary(attempt: CreationAttempt, tenant: Tenant) -> None:
    """Make the tenant its creator's primary, once, when a sync has found it instead of the create.

    Writes `memberships.is_primary` and the attempt's `answer`; nothing when it was done before, or
    when the creator is no member any more.
    """
    if (attempt.answer or {}).get("primary"):
        return
    with transaction.atomic():
        _lock_primary(attempt.clerk_user_id)
        sync.share_writers_lock()
        members = Membership.objects.filter(tenant=tenant, clerk_user_id=attempt.clerk_user_id)
        if tenant.is_active and members.filter(is_active=True).exists():
            _move_primary(attempt.clerk_user_id, tenant.pk)
        CreationAttempt.objects.filter(pk=attempt.pk).update(
            answer={**(attempt.answer or {}), "primary": True}
        )


def adopt_organization(
    clerk_user_id: str,
    organization: ClerkOrganization,
    membership: ClerkMembership | None,
    role: str | None = None,
) -> Tenant:
    """Mirror an organization with one of its members and make it that member's primary.

    Raise OrganizationDeleted when the id is dead in Clerk.
    """
    with transaction.atomic():
        _lock_primary(clerk_user_id)
        sync.write_organizations([organization])
        _refuse_dead(organization.id)
        tenant = Tenant.objects.get(clerk_org_id=organization.id)
        if membership is not None:
            sync.write_memberships([membership])
        elif role is not None:
            sync.write_creator(organization, clerk_user_id, role)
        if (
            tenant.is_active
            and tenant.memberships.filter(clerk_user_id=clerk_user_id, is_active=True).exists()
        ):
            _move_primary(clerk_user_id, tenant.pk)
    return tenant


def link(
    tenant: Tenant,
    organization: ClerkOrganization,
    memberships: Sequence[ClerkMembership],
    *,
    listed_at: datetime,
    complete: bool,
) -> Tenant:
    """Give a legacy tenant its organization, absorbing the bare row that a sync has made for it.

    Writes `tenants.clerk_org_id` and, through the mirror, name, slug, logo, metadata and members;
    deletes the absorbed row. Raise AlreadyLinked, OrganizationDeleted or AbsorbRefused; then
    nothing is written.
    """
    with transaction.atomic():
        movable = _lock_primaries_of(organization.id)
        sync.take_writers_lock()
        target, others = _lock_for_link(tenant, organization.id)
        if target.clerk_org_id not in (None, organization.id):
            raise AlreadyLinked(f"Tenant {target.pk} is linked to {target.clerk_org_id}; unlink it first.")
        _refuse_dead(organization.id)
        if target.is_legacy:
            _forget_former_organization(target)
            signals.announce_link(target.pk, organization.id)
        primaries = {user for bare in others for user in absorb_mirror_of(bare, target)}
        Tenant.objects.filter(pk=target.pk).update(clerk_org_id=organization.id)
        sync.write_organization_listing(organization, memberships, listed_at=listed_at, complete=complete)
        members = Membership.objects.filter(tenant=target, clerk_user_id__in=primaries & movable)
        members.update(is_primary=True)
        target.refresh_from_db()
    return target


def unlink(tenant: Tenant) -> Tenant:
    """Make the tenant a legacy tenant again; its organization goes on as a bare row while it lives.

    Writes `tenants` and `memberships`. Own columns stay: a tenant deactivated because its
    organization was deleted stays deactivated until somebody changes that. Nothing happens to a
    tenant that is not linked.
    """
    with transaction.atomic():
        sync.take_writers_lock()
        locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if not locked.is_legacy:
            sync.split_off_mirror(locked)
        tenant.refresh_from_db()
    return tenant


def delete(tenant: Tenant) -> None:
    """Delete the tenant and its memberships for good.

    Its organization, if it has one, must be gone from Clerk already: it is recorded as dead, so that
    no late event brings the tenant back.
    """
    with transaction.atomic():
        sync.take_writers_lock()
        locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if locked.clerk_org_id is not None:
            sync.bury_organization(locked.clerk_org_id)
        locked.delete()


def _lock_primaries_of(clerk_org_id: str) -> set[str]:
    """Lock the primaries of those whose primary the organization's row is; before the writers' lock."""
    flagged = Membership.objects.filter(tenant__clerk_org_id=clerk_org_id, is_primary=True)
    users = sorted(flagged.values_list("clerk_user_id", flat=True))
    for user in users:
        _lock_primary(user)
    return set(users)


def _lock_for_link(tenant: Tenant, clerk_org_id: str) -> tuple[Tenant, list[Tenant]]:
    """Lock the tenant's row and the organization's, if that is another one."""
    rows = Tenant.objects.select_for_update().filter(Q(pk=tenant.pk) | Q(clerk_org_id=clerk_org_id))
    locked = {row.pk: row for row in rows.order_by("pk")}
    if tenant.pk not in locked:
        raise AlreadyLinked("This tenant is gone: it was deleted, or absorbed by another one.")
    return locked.pop(tenant.pk), list(locked.values())


def _forget_former_organization(tenant: Tenant) -> None:
    """Clear the stamps of an organization that the tenant had before: another one's are no newer."""
    Tenant.objects.filter(pk=tenant.pk).update(clerk_created_at=None, clerk_updated_at=None)
    Membership.objects.filter(tenant=tenant).update(
        clerk_membership_id=None, clerk_created_at=None, clerk_updated_at=None
    )


def _move_primary(clerk_user_id: str, tenant_id: int) -> None:
    """Move the flag, with the rows locked in the order in which the mirror locks them."""
    concerned = Q(is_primary=True) | Q(tenant_id=tenant_id)
    rows = Membership.objects.filter(concerned, clerk_user_id=clerk_user_id).order_by("tenant_id")
    locked = {row.tenant_id: row for row in rows.select_for_update()}
    membership = locked.get(tenant_id)
    if membership is None or not membership.is_active:
        raise NotAMember("You are not a member of this tenant.")
    tenant = Tenant.objects.get(pk=tenant_id)
    if not tenant.is_active:
        raise TenantInactive(f"This tenant is {tenant.status}; it cannot be your primary.")
    flagged = Membership.objects.filter(clerk_user_id=clerk_user_id, is_primary=True)
    flagged.exclude(pk=membership.pk).update(is_primary=False)
    Membership.objects.filter(pk=membership.pk).update(is_primary=True)


def _refuse_dead(clerk_org_id: str) -> None:
    if Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=clerk_org_id).exists():
        raise OrganizationDeleted(f"{clerk_org_id} was deleted in Clerk; its id never comes back.")


def _refuse_linked(clerk_org_id: str) -> None:
    if Tenant.objects.filter(clerk_org_id=clerk_org_id).exists():
        raise AlreadyLinked(f"{clerk_org_id} belongs to another tenant.")


def _lock_primary(clerk_user_id: str) -> None:
    execute("SELECT pg_advisory_xact_lock(%(key)s, hashtext(%(user)s))", key=PRIMARY_LOCK, user=clerk_user_id)
