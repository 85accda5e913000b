"""What a migration would do with each tenant, and why; reads only."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

from django.db.models import Count, Q, QuerySet

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkMisconfigured
from clerk_integration.instance import ClerkOrganizationSettings, get_clerk_organization_settings
from clerk_integration.organizations import find_clerk_users
from clerk_integration.wire.deadlines import default_deadline
from tenants.backfill.census import LISTING_SECONDS, Census, take_census
from tenants.backfill.members import member_limit, owners_of
from tenants.backfill.organization import (
    Draft,
    attempts_for,
    is_unfinished,
    tenant_of,
    unfinished_attempts,
)
from tenants.exceptions import UnknownTenants
from tenants.mirror import writer
from tenants.models import CreationAttempt, Tenant, Tombstone

MAX_NAME_LENGTH = 256
"""Characters of an organization's name in Clerk."""

DEFAULT_MEMBER_LIMIT = 5
"""Clerk's `max_allowed_memberships` of an instance that does not say."""

State = CreationAttempt.State


class Action(StrEnum):
    """What is to be done with a tenant."""

    CREATE = "create"
    ADOPT = "adopt"
    CONFLICT = "conflict"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One tenant: what is to be done, with what, and why.

    `organization_id` is the organization that carries the tenant's marker. No more than the id is
    kept: it may be gone when the row's turn comes.
    """

    tenant_id: int
    name: str
    action: Action
    reason: str
    draft: Draft | None = None
    organization_id: str | None = None


@dataclass(frozen=True)
class Plan:
    """The rows in the order of the tenants' ids, and the listing of Clerk that they rest on."""

    rows: Sequence[PlanRow]
    census: Census

    @property
    def counts(self) -> Mapping[str, int]:
        """How many rows there are of each action."""
        found = Counter(row.action for row in self.rows)
        return {action.value: found[action] for action in Action}


def make_plan(
    *, tenant_ids: Collection[int] | None = None, limit: int | None = None, owner: str | None = None
) -> Plan:
    """Plan the migration of all legacy tenants, or of these; `limit` takes the first ones.

    `owner` becomes the first member where nobody of the tenant can. Tenants whose organization was
    created by a run that was cut off count in, also when a webhook has linked them. Reads Clerk: the
    instance's settings, all organizations (one call for each 500), the owners (one for each 100).
    Raise UnknownTenants for ids that are no tenant's, and ClerkError.
    """
    tenants = list(_candidates(tenant_ids)[:limit])
    if tenant_ids is not None:
        _refuse_unknown(tenant_ids)
    if not tenants:
        return Plan([], Census(began_at=writer.clock()))
    return _Planner.read(tenants, owner).plan()


def _candidates(tenant_ids: Collection[int] | None) -> QuerySet[Tenant]:
    unfinished = [tenant_of(attempt) for attempt in unfinished_attempts()]
    tenants = Tenant.objects.filter(Q(clerk_org_id=None) | Q(pk__in=unfinished)).order_by("pk")
    if tenant_ids is not None:
        tenants = Tenant.objects.filter(pk__in=tenant_ids).order_by("pk")
    members = Count("memberships", filter=Q(memberships__is_active=True))
    return tenants.annotate(members=members)


def _refuse_unknown(tenant_ids: Collection[int]) -> None:
    known = set(Tenant.objects.filter(pk__in=tenant_ids).values_list("pk", flat=True))
    unknown = sorted(set(tenant_ids) - known)
    if unknown:
        raise UnknownTenants(unknown)


@dataclass
class _Planner:
    """Everything that the rows are decided by."""

    tenants: Sequence[Tenant]
    fallback_owner: str | None
    settings: ClerkOrganizationSettings
    attempts: Mapping[int, CreationAttempt]
    owners: Mapping[int, Sequence[str]]
    known_users: Collection[str]
    dead: Collection[str]
    census: Census
    _given_slugs: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, tenants: Sequence[Tenant], fallback_owner: str | None) -> "_Planner":
        """Ask database and Clerk what there is to know."""
        with default_deadline(JOB_TIMEOUT_SECONDS):
            settings = get_clerk_organization_settings()
        if settings.enabled is False:
            raise ClerkMisconfigured("Organizations are disabled in this Clerk instance; enable them first.")
        ids = [tenant.pk for tenant in tenants]
        attempts, owners = attempts_for(ids), owners_of(ids)
        users = [user for ranked in owners.values() for user in ranked]
        with default_deadline(LISTING_SECONDS):
            known_users = find_clerk_users([*users, *([fallback_owner] if fallback_owner else [])])
        return cls(
            tenants=tenants,
            fallback_owner=fallback_owner,
            settings=settings,
            attempts=attempts,
            owners=owners,
            known_users=known_users,
            dead=_dead_organizations(attempts.values()),
            census=take_census(
                markers={attempt.marker for attempt in attempts.values()},
                tenant_ids=set(ids),
                slugs=(tenant.slug for tenant in tenants if tenant.slug),
            ),
        )

    def plan(self) -> Plan:
        """Decide about each tenant."""
        return Plan([self._row(tenant) for tenant in self.tenants], self.census)

    def _row(self, tenant: Tenant) -> PlanRow:
        attempt = self.attempts.get(tenant.pk)
        if tenant.clerk_org_id is not None and not (attempt and is_unfinished(attempt)):
            return _decided(tenant, Action.SKIP, f"linked to {tenant.clerk_org_id} already")
        marked = [org for org in self.census.marked(tenant.pk, attempt) if org.id not in self.dead]
        if len(marked) > 1:
            names = ", ".join(organization.id for organization in marked)
            return _decided(
                tenant, Action.CONFLICT, f"{names} carry its marker; delete all but one of them in Clerk"
            )
        return self._adoption(tenant, attempt, marked) or self._creation(tenant)

    def _adoption(
        self, tenant: Tenant, attempt: CreationAttempt | None, marked: Sequence[ClerkOrganization]
    ) -> PlanRow | None:
        """The row of a tenant whose organization an earlier run has created."""
        if attempt is not None and attempt.state == State.SUCCEEDED:
            clerk_org_id = (attempt.answer or {})["clerk_org_id"]
            if clerk_org_id not in self.dead:
                return self._adopted(tenant, marked, f"{clerk_org_id} was created for it by an earlier run")
        return self._adopted(tenant, marked, f"{marked[0].id} carries its marker") if marked else None

    def _adopted(self, tenant: Tenant, found: Sequence[ClerkOrganization], reason: str) -> PlanRow:
        owner = found[0].created_by if found else None
        draft = self._draft(tenant, owner or self._owner(tenant) or "")
        organization_id = found[0].id if found else None
        return PlanRow(tenant.pk, tenant.name, Action.ADOPT, reason, draft, organization_id)

    def _creation(self, tenant: Tenant) -> PlanRow:
        obstacle = self._obstacle(tenant)
        if obstacle is not None:
            return _decided(tenant, Action.CONFLICT, obstacle)
        owner = self._owner(tenant)
        draft = self._draft(tenant, str(owner))
        if draft.slug:
            self._given_slugs.add(draft.slug)
        return PlanRow(tenant.pk, tenant.name, Action.CREATE, f"{owner} becomes its first member", draft)

    def _draft(self, tenant: Tenant, owner: str) -> Draft:
        default_limit = self.settings.max_allowed_memberships
        members = getattr(tenant, "members", 0) + (owner not in self.owners.get(tenant.pk, ()))
        return Draft(
            tenant_id=tenant.pk,
            name=tenant.name,
            owner=owner,
            slug=None if self.settings.slug_disabled else tenant.slug or None,
            max_allowed_memberships=member_limit(
                members, DEFAULT_MEMBER_LIMIT if default_limit is None else default_limit
            ),
        )

    def _owner(self, tenant: Tenant) -> str | None:
        candidates = [
            *self.owners.get(tenant.pk, ()),
            *([self.fallback_owner] if self.fallback_owner else []),
        ]
        return next((user for user in candidates if user in self.known_users), None)

    def _obstacle(self, tenant: Tenant) -> str | None:
        """Why Clerk would refuse the organization, and what to do about it."""
        if not 0 < len(tenant.name) <= MAX_NAME_LENGTH:
            return f"its name has {len(tenant.name)} characters, Clerk takes 1 to {MAX_NAME_LENGTH}"
        if self._owner(tenant) is None:
            return self._ownerless(tenant)
        if tenant.slug and not self.settings.slug_disabled and self._is_taken(tenant.slug):
            return (
                f"the slug {tenant.slug} is taken in Clerk: change it here ({self._free_slug(tenant.slug)} is"
                " free), or link the tenant if that organization is its own"
            )
        return None

    def _ownerless(self, tenant: Tenant) -> str:
        owners = self.owners.get(tenant.pk)
        wanted = "give it one, or name a Clerk user with --owner"
        if self.fallback_owner is not None:
            wanted = f"{self.fallback_owner} is unknown to Clerk, too"
        if owners:
            return f"Clerk does not know {', '.join(owners)}, who would become its first member: {wanted}"
        return f"it has no active owner or admin: {wanted}"

    def _is_taken(self, slug: str) -> bool:
        return slug in self.census.taken_slugs or slug in self._given_slugs

    def _free_slug(self, slug: str) -> str:
        """A slug like this one that nobody has, as far as the listing was asked about it."""
        suggestions: Iterator[str] = (f"{slug}-{number}" for number in count(2))
        return next(suggestion for suggestion in suggestions if not self._is_taken(suggestion))


def _decided(tenant: Tenant, action: Action, reason: str) -> PlanRow:
    return PlanRow(tenant.pk, tenant.name, action, reason)


def _dead_organizations(attempts: Collection[CreationAttempt]) -> set[str]:
    ids = [(attempt.answer or {}).get("clerk_org_id") for attempt in attempts]
    dead = Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id__in=[i for i in ids if i])
    return set(dead.values_list("clerk_id", flat=True))
