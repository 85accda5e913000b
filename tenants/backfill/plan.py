"""Plan a migration: decide for each tenant what to do, and why. Write nothing."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import count
from typing import Any

from django.db.models import Count, Q, QuerySet

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkMisconfigured
from clerk_integration.instance import ClerkOrganizationSettings, get_clerk_organization_settings
from clerk_integration.naming import name_problem, slug_problem
from clerk_integration.organizations import find_clerk_users
from clerk_integration.wire.deadlines import default_deadline
from tenants.backfill.attempts import (
    attempts_for,
    created_by,
    is_unfinished,
    tenant_of,
    unfinished_attempts,
)
from tenants.backfill.members import member_limit, owners_by_tenant
from tenants.backfill.organization import Draft, deleted_among, find_by_marker
from tenants.backfill.snapshot import LISTING_SECONDS, ClerkSnapshot, take_snapshot
from tenants.creation.instances import require_own_instance
from tenants.exceptions import AmbiguousMarker, UnknownTenants
from tenants.mirror.absorb import why_not_absorbed
from tenants.models import CreationAttempt, Tenant

OWNERS_OF = 100
"""Number of tenants whose owners are looked up in Clerk together."""

DEFAULT_MEMBER_LIMIT = 5
"""Clerk's `max_allowed_memberships` if the settings of the instance do not contain a value."""


class Action(StrEnum):
    """What to do with a tenant."""

    CREATE = "create"
    ADOPT = "adopt"
    CONFLICT = "conflict"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class PlanRow:
    """The plan for one tenant: the action, the draft of its organization, and the reason.

    `organization_id` names the organization to adopt, which may be deleted before the row is carried out.
    """

    tenant_id: int
    name: str
    action: Action
    reason: str
    draft: Draft | None = None
    organization_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row in the form that a slice stores."""
        return {**asdict(self), "action": self.action.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PlanRow":
        """Return the row that `as_json` has stored."""
        draft = None if data["draft"] is None else Draft(**data["draft"])
        return cls(**{**data, "action": Action(data["action"]), "draft": draft})


@dataclass(frozen=True)
class Plan:
    """The plan of a migration: one row for each tenant, ordered by tenant id."""

    rows: Sequence[PlanRow]

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the number of rows for each action."""
        found = Counter(row.action for row in self.rows)
        return {action.value: found[action] for action in Action}


def make_plan(
    *, tenant_ids: Collection[int] | None = None, limit: int | None = None, owner: str | None = None
) -> Plan:
    """Plan the migration of all legacy tenants, or of the tenants in `tenant_ids`.

    With `limit`, plan at most `limit` tenants that can be migrated; conflicts do not count. `owner` becomes
    the first member of a tenant that has no suitable member. Include tenants of an unfinished earlier run,
    even if a webhook has linked them. Call Clerk: the instance's settings, all organizations (one call for
    each 500), the owners (one call for each 100). Raise UnknownTenants and ClerkError.
    """
    if tenant_ids is not None:
        _refuse_unknown(tenant_ids)
    tenants = list(_candidates(tenant_ids))
    return Plan(_Planner.read(tenants, owner).rows(limit) if tenants else [])


def _candidates(tenant_ids: Collection[int] | None) -> QuerySet[Tenant]:
    if tenant_ids is None:
        unfinished = [tenant_of(attempt) for attempt in unfinished_attempts()]
        tenants = Tenant.objects.filter(Q(clerk_org_id=None) | Q(pk__in=unfinished))
    else:
        tenants = Tenant.objects.filter(pk__in=tenant_ids)
    members = Count("memberships", filter=Q(memberships__is_active=True))
    return tenants.annotate(members=members).order_by("pk")


def _refuse_unknown(tenant_ids: Collection[int]) -> None:
    known = set(Tenant.objects.filter(pk__in=tenant_ids).values_list("pk", flat=True))
    unknown = sorted(set(tenant_ids) - known)
    if unknown:
        raise UnknownTenants(unknown)


@dataclass
class _Planner:
    """Decides what to do with each tenant, from the data of the database and of Clerk that it holds."""

    tenants: Sequence[Tenant]
    fallback_owner: str | None
    settings: ClerkOrganizationSettings
    attempts: Mapping[int, CreationAttempt]
    snapshot: ClerkSnapshot
    deleted: Collection[str]
    mirrors: Mapping[str | None, Tenant]
    _owners: Mapping[int, Sequence[str]] = field(default_factory=dict)
    _known_users: Collection[str] = ()
    _given_slugs: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, tenants: Sequence[Tenant], fallback_owner: str | None) -> "_Planner":
        """Read the data from the database and from Clerk."""
        with default_deadline(JOB_TIMEOUT_SECONDS):
            require_own_instance()
            settings = get_clerk_organization_settings()
        if settings.enabled is False:
            raise ClerkMisconfigured("Organizations are disabled in this Clerk instance; enable them first.")
        ids = {tenant.pk for tenant in tenants}
        attempts = attempts_for(ids)
        snapshot = take_snapshot(ids, slugs=(tenant.slug for tenant in tenants if tenant.slug))
        recorded = {*filter(None, map(created_by, attempts.values())), *snapshot.organization_ids}
        mirrors = {tenant.clerk_org_id: tenant for tenant in Tenant.objects.filter(clerk_org_id__in=recorded)}
        return cls(tenants, fallback_owner, settings, attempts, snapshot, deleted_among(recorded), mirrors)

    def rows(self, limit: int | None) -> list[PlanRow]:
        """Return the row of each tenant in order, until `limit` tenants can be migrated."""
        rows: list[PlanRow] = []
        possible = 0
        for start in range(0, len(self.tenants), OWNERS_OF):
            chunk = self.tenants[start : start + OWNERS_OF]
            self._find_owners(chunk)
            for tenant in chunk:
                rows.append(self._row(tenant))
                possible += rows[-1].draft is not None
                if possible == limit:
                    return rows
        return rows

    def _find_owners(self, tenants: Sequence[Tenant]) -> None:
        """Read the possible first members of the tenants, and find the users that exist in Clerk."""
        self._owners = owners_by_tenant([tenant.pk for tenant in tenants])
        users = [user for candidates in self._owners.values() for user in candidates]
        with default_deadline(LISTING_SECONDS):
            self._known_users = find_clerk_users([*users, *filter(None, [self.fallback_owner])])

    def _row(self, tenant: Tenant) -> PlanRow:
        attempt = self.attempts.get(tenant.pk)
        if tenant.clerk_org_id is not None and not (attempt and is_unfinished(attempt)):
            return _decided(tenant, Action.SKIP, f"already linked to {tenant.clerk_org_id}")
        try:
            found = find_by_marker(tenant.pk, attempt, self.snapshot, self.deleted)
        except AmbiguousMarker as several:
            return _decided(tenant, Action.CONFLICT, str(several))
        return self._adoption(tenant, attempt, found) or self._creation(tenant)

    def _adoption(
        self, tenant: Tenant, attempt: CreationAttempt | None, found: ClerkOrganization | None
    ) -> PlanRow | None:
        """Return the row if an earlier run created the tenant's organization; otherwise None."""
        recorded = created_by(attempt)
        if recorded is not None and recorded not in self.deleted:
            organization_id, reason = recorded, f"an earlier run created {recorded} for it"
        elif found is not None:
            organization_id, reason = found.id, f"{found.id} carries its marker"
        else:
            return None
        if tenant.clerk_org_id not in (None, organization_id):
            return _decided(tenant, Action.CONFLICT, f"linked to {tenant.clerk_org_id}, but {reason}")
        mirror = self.mirrors.get(organization_id)
        if mirror is not None and mirror.pk != tenant.pk and (obstacles := why_not_absorbed(mirror)):
            reason = f"{organization_id} is linked to tenant {mirror.pk}: {'; '.join(obstacles)}"
            return _decided(tenant, Action.CONFLICT, reason)
        draft = self._draft(tenant, (found and found.created_by) or self._owner(tenant) or "")
        return PlanRow(tenant.pk, tenant.name, Action.ADOPT, reason, draft, organization_id)

    def _creation(self, tenant: Tenant) -> PlanRow:
        obstacle = self._obstacle(tenant)
        if obstacle is not None:
            return _decided(tenant, Action.CONFLICT, obstacle)
        owner = self._owner(tenant)
        draft = replace(
            self._draft(tenant, str(owner)), owner_is_member=owner in self._owners.get(tenant.pk, ())
        )
        if draft.slug:
            self._given_slugs.add(draft.slug)
        return PlanRow(tenant.pk, tenant.name, Action.CREATE, f"{owner} becomes its first member", draft)

    def _draft(self, tenant: Tenant, owner: str) -> Draft:
        default_limit = self.settings.max_allowed_memberships
        members = getattr(tenant, "members", 0) + (owner not in self._owners.get(tenant.pk, ()))
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
        candidates = (*self._owners.get(tenant.pk, ()), self.fallback_owner)
        return next((user for user in candidates if user in self._known_users), None)

    def _obstacle(self, tenant: Tenant) -> str | None:
        """Return why Clerk would refuse the organization and what to do; None if Clerk would accept it."""
        problem = name_problem(tenant.name)
        if problem is not None:
            return f"its name {problem}: rename it first"
        if self._owner(tenant) is None:
            return self._ownerless(tenant)
        if not tenant.slug or self.settings.slug_disabled:
            return None
        problem = slug_problem(tenant.slug)
        if problem is not None:
            return f"its slug {tenant.slug!r} {problem}: change it first"
        if self._is_taken(tenant.slug):
            return (
                f"the slug {tenant.slug} is taken in Clerk: change it here ({self._free_slug(tenant.slug)} is"
                " free), or link the tenant if that organization belongs to it"
            )
        return None

    def _ownerless(self, tenant: Tenant) -> str:
        owners = self._owners.get(tenant.pk)
        remedy = "add an owner whom Clerk knows, or name a Clerk user as the owner (--owner)"
        if self.fallback_owner is not None:
            remedy = f"{self.fallback_owner} is unknown to Clerk, too"
        if owners:
            return f"Clerk does not know {', '.join(owners)}, who would become its first member: {remedy}"
        return f"it has no active owner or admin: {remedy}"

    def _is_taken(self, slug: str) -> bool:
        return slug in self.snapshot.taken_slugs or slug in self._given_slugs

    def _free_slug(self, slug: str) -> str:
        """Return the slug with the lowest number at its end that is free in Clerk and in this plan."""
        suggestions = (f"{slug}-{number}" for number in count(2))
        return next(suggestion for suggestion in suggestions if not self._is_taken(suggestion))


def _decided(tenant: Tenant, action: Action, reason: str) -> PlanRow:
    return PlanRow(tenant.pk, tenant.name, action, reason)
