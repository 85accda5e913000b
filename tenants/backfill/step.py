"""One tenant of a migration: its organization, its members, its link. Can be cut off and repeated."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import (
    ClerkError,
    ClerkMisconfigured,
    ClerkNotFound,
    ClerkRateLimited,
    ClerkRejected,
    ClerkUnavailable,
)
from clerk_integration.organizations import iter_clerk_memberships
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.backfill.census import Census
from tenants.backfill.members import Brought, bring_members
from tenants.backfill.organization import (
    Draft,
    adopt,
    attempt_for,
    create_or_find,
    created_by,
    is_dead,
    is_unfinished,
)
from tenants.backfill.plan import Action, PlanRow
from tenants.creation import attempts, search
from tenants.exceptions import IdempotencyKeyInUse, OrganizationDeleted, TenantError
from tenants.lifecycle import link
from tenants.mirror import writer
from tenants.models import CreationAttempt, Tenant

logger = logging.getLogger(__name__)

RATE_LIMIT_TRIES = 5
"""How often a POST that Clerk answered with 429, and did not carry out, is sent at most."""


class Result(StrEnum):
    """What became of a tenant."""

    CREATED = "created"
    ADOPTED = "adopted"
    SKIPPED = "skipped"
    CONFLICT = "conflict"
    FAILED = "failed"
    WAITING = "waiting"
    """It is not certain yet what an earlier attempt came to, or somebody else is at it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a tenant; `member_problems` are those of members whom Clerk refused."""

    tenant_id: int
    result: Result
    organization_id: str = ""
    error: str = ""
    member_problems: Sequence[str] = ()
    retry_after: float = 0.0
    clerk_is_down: bool = False

    @property
    def message(self) -> str:
        """What went wrong with the tenant and its members; empty when nothing did."""
        return "; ".join(part for part in (self.error, *self.member_problems) if part)

    @property
    def failed(self) -> bool:
        """Whether somebody must look at it."""
        return self.result in (Result.FAILED, Result.CONFLICT) or bool(self.member_problems)


def migrate(row: PlanRow, census: Census) -> Outcome:
    """Carry out a row of the plan.

    Writes the tenant's attempt, then tenant and members in one transaction. Calls Clerk: a POST for
    the organization unless it is there, a POST for each further member, a listing of the members.
    Raise ClerkMisconfigured, after which nothing else will work either; everything else that can go
    wrong with the tenant is its outcome.
    """
    if row.draft is None:
        conflict = row.action is Action.CONFLICT
        return Outcome(row.tenant_id, Result.CONFLICT if conflict else Result.SKIPPED, error=row.reason)
    try:
        return _migrate(row, row.draft, census)
    except IdempotencyKeyInUse as wait:
        return Outcome(row.tenant_id, Result.WAITING, error=str(wait), retry_after=wait.retry_after)
    except ClerkMisconfigured:
        raise
    except ClerkUnavailable as failure:
        return _unavailable(row, failure)
    except (ClerkRejected, TenantError) as refusal:
        return Outcome(row.tenant_id, Result.CONFLICT, error=str(refusal))
    except ClerkError as failure:
        return Outcome(row.tenant_id, Result.FAILED, error=str(failure))


def _migrate(row: PlanRow, draft: Draft, census: Census) -> Outcome:
    tenant = Tenant.objects.filter(pk=row.tenant_id).first()
    if tenant is None:
        return Outcome(row.tenant_id, Result.SKIPPED, error="deleted meanwhile")
    attempt = attempt_for(tenant.pk)
    if tenant.clerk_org_id is not None and not (attempt and is_unfinished(attempt)):
        return Outcome(tenant.pk, Result.SKIPPED, tenant.clerk_org_id, "linked meanwhile")
    if attempt is not None:
        _refuse_busy(attempt)
    organization, created = _patiently(tenant.pk, lambda: _adopt_or_create(row, draft, attempt, census))
    brought = bring_members(tenant.pk, organization, owner=draft.owner)
    _link(tenant, organization, brought)
    result = Result.CREATED if created else Result.ADOPTED
    return Outcome(tenant.pk, result, organization.id, member_problems=tuple(brought.problems))


def _refuse_busy(attempt: CreationAttempt) -> None:
    """Raise IdempotencyKeyInUse while another run may be bringing the tenant's members."""
    if not is_unfinished(attempt) or attempt.state == CreationAttempt.State.UNKNOWN:
        return
    age = (writer.clock() - attempt.sent_at).total_seconds()
    if age < search.IN_FLIGHT_SECONDS:
        raise search.in_progress(retry_after=search.IN_FLIGHT_SECONDS - age)


def _adopt_or_create(
    row: PlanRow, draft: Draft, attempt: CreationAttempt | None, census: Census
) -> tuple[ClerkOrganization, bool]:
    """Adopt what was created for the tenant, by any sign of it; a row that is to adopt sends no POST."""
    clerk_org_id = created_by(attempt) or _marked(row, attempt, census)
    if clerk_org_id is not None:
        return _adopt(row.tenant_id, attempt, clerk_org_id), False
    if row.action is Action.ADOPT:
        raise OrganizationDeleted(
            "Its organization was deleted in Clerk meanwhile; run this again to create another one."
        )
    return create_or_find(draft, census.search)


def _marked(row: PlanRow, attempt: CreationAttempt | None, census: Census) -> str | None:
    """The organization with the tenant's marker, as the plan has it or a later listing."""
    if row.organization_id is not None:
        return row.organization_id
    found = (organization.id for organization in census.marked(row.tenant_id, attempt))
    return next((clerk_org_id for clerk_org_id in found if not is_dead(clerk_org_id)), None)


def _adopt(tenant_id: int, attempt: CreationAttempt | None, clerk_org_id: str) -> ClerkOrganization:
    try:
        return adopt(tenant_id, attempt, clerk_org_id)
    except ClerkNotFound as missing:
        raise ClerkNotFound(
            f"{clerk_org_id}, which was created for it, is unknown to Clerk: deleted there, or the key is of"
            f" another instance. Run `sync_from_clerk --organization {clerk_org_id}` to record that it is"
            " gone, then run this again."
        ) from missing


def _patiently(
    tenant_id: int, call: Callable[[], tuple[ClerkOrganization, bool]]
) -> tuple[ClerkOrganization, bool]:
    """Call again after a 429: an attempt is renewed when its turn has come."""
    for _ in range(RATE_LIMIT_TRIES - 1):
        try:
            return call()
        except ClerkRateLimited as limited:
            logger.info("Tenant %s waits for its turn: %s", tenant_id, limited)
    return call()


def _link(tenant: Tenant, organization: ClerkOrganization, brought: Brought) -> None:
    listed_at = writer.clock()
    memberships, complete = _members_of(organization, brought.memberships)
    link.link(tenant, organization, memberships, listed_at=listed_at, complete=complete)
    attempt = attempt_for(tenant.pk)
    if attempt is not None:
        attempts.close_backfill(attempt, organization)


def _members_of(
    organization: ClerkOrganization, brought: Sequence[ClerkMembership]
) -> tuple[Sequence[ClerkMembership], bool]:
    """The members as Clerk lists them, and those that it has just made and may not list yet."""
    with clerk_deadline(JOB_TIMEOUT_SECONDS):
        listed = iter_clerk_memberships(organization.id).to_list()
    known = {membership.id for membership in listed}
    return [*listed, *(new for new in brought if new.id not in known)], listed.complete


def _unavailable(row: PlanRow, failure: ClerkUnavailable) -> Outcome:
    """Waiting when Clerk may have done it, since that can be found out; failed when it has not."""
    if failure.outcome_unknown:
        wait = search.UNRESOLVED_SECONDS
        return Outcome(
            row.tenant_id, Result.WAITING, error=str(failure), retry_after=wait, clerk_is_down=True
        )
    return Outcome(row.tenant_id, Result.FAILED, error=str(failure), clerk_is_down=True)
