"""Migrate one tenant: its organization, its members, its link. Each step may be interrupted and repeated."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from django.db import DatabaseError, InterfaceError, connection

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import (
    ClerkError,
    ClerkMisconfigured,
    ClerkRateLimited,
    ClerkRejected,
    ClerkUnavailable,
)
from clerk_integration.instance import get_clerk_organization_settings
from clerk_integration.organizations import iter_clerk_memberships
from clerk_integration.wire.deadlines import clerk_deadline, default_deadline
from clerk_integration.wire.passes import ClerkList
from tenants.backfill.attempts import attempt_for, close_for, is_unfinished
from tenants.backfill.members import MemberResult, create_members, owners_by_tenant
from tenants.backfill.organization import Draft, FindSnapshot, get_or_create, refuse_in_flight
from tenants.backfill.plan import Action, PlanRow
from tenants.creation import search
from tenants.exceptions import IdempotencyKeyInUse, NoOwner, TenantError
from tenants.lifecycle import link
from tenants.mirror import writer
from tenants.models import CreationAttempt, Tenant

logger = logging.getLogger(__name__)

RATE_LIMIT_TRIES = 5
"""Maximum number of POSTs if Clerk answers 429, which means that Clerk did not carry out the request."""

REFUSED_TO_EVERYBODY = (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN)
"""Statuses of refusals because of a plan, a quota or a setting, which affect all tenants."""


class Result(StrEnum):
    """The result of migrating one tenant."""

    CREATED = "created"
    ADOPTED = "adopted"
    SKIPPED = "skipped"
    CONFLICT = "conflict"
    FAILED = "failed"
    WAITING = "waiting"
    """The outcome of an earlier attempt is not known yet, or another process is working on the tenant."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one tenant; `member_problems` has a message for each member that Clerk refused."""

    tenant_id: int
    result: Result
    organization_id: str = ""
    error: str = ""
    member_problems: Sequence[str] = ()
    retry_after: float = 0.0
    failure: str = ""
    """Kind of an error that may also affect other tenants; empty for other errors."""

    @property
    def message(self) -> str:
        """Return the errors of the tenant and its members in one line; empty if there is no error."""
        parts = (" ".join(part.split()) for part in (self.error, *self.member_problems))
        return "; ".join(filter(None, parts))

    @property
    def failed(self) -> bool:
        """Return whether the tenant, or one of its members, was not migrated."""
        return self.result in (Result.FAILED, Result.CONFLICT) or bool(self.member_problems)


def migrate(row: PlanRow, find_snapshot: FindSnapshot) -> Outcome:
    """Carry out one row of the plan.

    Write the tenant's attempt, then tenant and members in one transaction. Call Clerk: a POST for the
    organization unless it exists, a POST for each further member, a listing of the members;
    `find_snapshot` is called if the outcome of an earlier POST is unknown. Return a failure as the outcome
    of the tenant. Raise ClerkMisconfigured if all other tenants would fail in the same way.
    """
    if row.draft is None:
        return decided(row)
    try:
        return _migrate(row, row.draft, find_snapshot)
    except IdempotencyKeyInUse as wait:
        return Outcome(row.tenant_id, Result.WAITING, error=str(wait), retry_after=wait.retry_after)
    except TenantError as refusal:
        return Outcome(row.tenant_id, Result.CONFLICT, error=str(refusal))
    except ClerkError as failure:
        return _clerk_failure(row.tenant_id, failure)
    except Exception as failure:
        return _unexpected_failure(row.tenant_id, failure)


def decided(row: PlanRow) -> Outcome:
    """Return the outcome of a row without a draft: the plan has decided that there is nothing to do."""
    conflict = row.action is Action.CONFLICT
    return Outcome(row.tenant_id, Result.CONFLICT if conflict else Result.SKIPPED, error=row.reason)


def _migrate(row: PlanRow, draft: Draft, find_snapshot: FindSnapshot) -> Outcome:
    tenant = Tenant.objects.filter(pk=row.tenant_id).first()
    if tenant is None:
        return Outcome(row.tenant_id, Result.SKIPPED, error="the tenant was deleted since the run began")
    attempt = attempt_for(tenant.pk)
    if tenant.clerk_org_id is not None and not (attempt and is_unfinished(attempt)):
        return Outcome(
            tenant.pk, Result.SKIPPED, tenant.clerk_org_id, "the tenant was linked since the run began"
        )
    if attempt is not None and is_unfinished(attempt) and attempt.state != CreationAttempt.State.UNKNOWN:
        # Another run may be creating the tenant's members.
        refuse_in_flight(attempt)
    draft = _up_to_date(draft, tenant)
    organization, created = _retry_rate_limited(draft, attempt, row.organization_id, find_snapshot)
    members = MemberResult()
    if draft.adds_members:
        members = create_members(tenant.pk, organization, owner=draft.owner)
    link_organization(tenant, organization, members.memberships)
    result = Result.CREATED if created else Result.ADOPTED
    return Outcome(tenant.pk, result, organization.id, member_problems=tuple(members.problems))


def _up_to_date(draft: Draft, tenant: Tenant) -> Draft:
    """Return the draft with the name and slug that the tenant has now: the plan may be hours old.

    Raise NoOwner if the planned owner was chosen among the tenant's owners and is none any more.
    """
    if draft.owner_is_member and draft.owner not in owners_by_tenant([tenant.pk]).get(tenant.pk, []):
        raise NoOwner(
            f"{draft.owner} was to become the first member, and is no owner or admin of the tenant any more."
            " Nothing was created. Run the migration again; it chooses another owner."
        )
    return replace(draft, name=tenant.name, slug=tenant.slug or None if draft.slug else None)


def _retry_rate_limited(
    draft: Draft,
    attempt: CreationAttempt | None,
    clerk_org_id: str | None,
    find_snapshot: FindSnapshot,
) -> tuple[ClerkOrganization, bool]:
    """Get or create the organization; after a 429, repeat the request when the shared pace allows it."""
    for tries_left in reversed(range(RATE_LIMIT_TRIES)):
        try:
            return get_or_create(draft, attempt, clerk_org_id, find_snapshot)
        except ClerkRateLimited as limited:
            if not tries_left:
                raise
            logger.info("Retrying tenant %s: %s", draft.tenant_id, limited)
            attempt = attempt_for(draft.tenant_id)
    raise AssertionError("unreachable")


def link_organization(
    tenant: Tenant,
    organization: ClerkOrganization,
    created: Sequence[ClerkMembership] = (),
    *,
    needs_members: bool = True,
    acting_user: Any = None,
) -> Tenant:
    """Link the tenant to its organization, with the members that Clerk lists; return the tenant.

    `created` are memberships that Clerk has just created and may not list yet. Write the tenant, its
    members and the attempt. Call Clerk: one listing of the members. Raise TenantError, and ClerkError if
    the listing fails and `needs_members` is true.
    """
    listed_at = writer.clock()
    listed: ClerkList[ClerkMembership] | None = None
    try:
        with default_deadline(JOB_TIMEOUT_SECONDS):
            listed = iter_clerk_memberships(organization.id).to_list()
    except ClerkError as error:
        if needs_members:
            raise
        logger.warning("Members of %s not read back; the next sync reads them: %s", organization.id, error)
    known = {membership.id for membership in listed or ()}
    members = [*(listed or ()), *(member for member in created if member.id not in known)]
    linked = link.link(
        tenant,
        organization,
        members,
        listed_at=listed_at,
        complete=listed is not None and listed.complete,
        skipped_ids=[] if listed is None else listed.skipped_ids,
        acting_user=acting_user,
    )
    close_for(tenant.pk, organization)
    return linked


def _clerk_failure(tenant_id: int, error: ClerkError) -> Outcome:
    """Return the outcome for an error of Clerk.

    | error                                     | outcome                                                 |
    | ----------------------------------------- | ------------------------------------------------------- |
    | ClerkRejected, by the tenant's own data   | CONFLICT                                                |
    | ClerkUnavailable, outcome unknown         | WAITING: a later snapshot shows the outcome             |
    | ClerkMisconfigured                        | raised if Clerk answers another request in the same way |
    | any other                                 | FAILED                                                  |
    """
    if isinstance(error, ClerkRejected) and error.code and error.status_code not in REFUSED_TO_EVERYBODY:
        return Outcome(tenant_id, Result.CONFLICT, error=str(error))
    if isinstance(error, ClerkMisconfigured):
        _raise_if_all_requests_fail()
    failure = f"{type(error).__name__} {getattr(error, 'code', '')}".rstrip()
    if isinstance(error, ClerkUnavailable) and error.outcome_unknown:
        wait = search.UNRESOLVED_SECONDS
        return Outcome(tenant_id, Result.WAITING, error=str(error), retry_after=wait, failure=failure)
    return Outcome(tenant_id, Result.FAILED, error=str(error), failure=failure)


def _raise_if_all_requests_fail() -> None:
    """Send a request that every valid key may send; raise ClerkMisconfigured if Clerk refuses the request."""
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            get_clerk_organization_settings()
    except ClerkMisconfigured:
        raise
    except ClerkError as error:
        logger.info("Cannot tell whether Clerk refuses all requests: %s", error)


def _unexpected_failure(tenant_id: int, error: Exception) -> Outcome:
    name = type(error).__name__
    expected = isinstance(error, DatabaseError | InterfaceError)
    logger.warning("Migration of tenant %s failed: %s", tenant_id, error, exc_info=not expected)
    connection.close_if_unusable_or_obsolete()
    return Outcome(tenant_id, Result.FAILED, error=f"{name}: {error}", failure=name)
