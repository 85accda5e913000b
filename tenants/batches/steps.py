"""Define the steps that staff may carry out for selected tenants, and to which tenants each step applies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Protocol

from django.db.models import Case, Count, Q, QuerySet, Value, When

from tenants import services
from tenants.backfill import create_organization_for
from tenants.backfill.snapshot import take_snapshot
from tenants.exceptions import OrganizationDeleted
from tenants.history import acting
from tenants.models import Tenant

Options = Mapping[str, Any]
"""What staff have entered for a step, in a form that JSON can store."""

Status = Tenant.Status


class Run(Protocol):
    """Carries out a step for one tenant. Raise TenantError or ClerkError if it fails."""

    def __call__(self, tenant: Tenant, *, acting_user: Any, options: Options) -> object: ...


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason why a step does not apply to a tenant, which completes "3 tenants skipped: ...".

    `matches` and `rows` must agree: one is for a tenant at hand, the other for a query.
    """

    reason: str
    matches: Callable[[Tenant], bool]
    rows: Q


LINKED = Obstacle(
    "already linked to Clerk", lambda tenant: not tenant.is_legacy, Q(clerk_org_id__isnull=False)
)
LEGACY = Obstacle("not linked to Clerk", lambda tenant: tenant.is_legacy, Q(clerk_org_id=None))
DELETED = Obstacle(
    "deleted in Clerk: restore or unlink first",
    lambda tenant: tenant.deleted_at is not None,
    Q(deleted_at__isnull=False),
)
NOT_DELETED = Obstacle(
    "not recorded as deleted in Clerk", lambda tenant: tenant.deleted_at is None, Q(deleted_at=None)
)
ACTIVE = Obstacle("already active", lambda tenant: tenant.is_active, Q(status=Status.ACTIVE))
DEACTIVATED = Obstacle(
    "already deactivated", lambda tenant: tenant.status == Status.DEACTIVATED, Q(status=Status.DEACTIVATED)
)


@dataclass(frozen=True, slots=True)
class Step:
    """What staff may do with a tenant, for those who have `permission`.

    `label` is for buttons; `done` completes "3 tenants ...". `lists_members` is true if the step reads all
    members of the organization from Clerk, which takes long for a large organization. `keeps_organization`
    is false if the step ends the tenant's link to its organization: a run leaves out tenants that were linked
    after it was started. `prepare` gets the ids of several tenants, and returns what `run` needs for all of
    them, in addition to the options; it may call Clerk.
    """

    key: str
    label: str
    done: str
    permission: str
    run: Run
    obstacles: Sequence[Obstacle] = ()
    lists_members: bool = False
    keeps_organization: bool = True
    prepare: Callable[[Sequence[int]], Options] = lambda tenant_ids: {}

    def why_not(self, tenant: Tenant) -> str:
        """Return why the step does not apply to the tenant; an empty string if it applies."""
        return next((obstacle.reason for obstacle in self.obstacles if obstacle.matches(tenant)), "")

    def applicable(self, tenants: QuerySet[Tenant]) -> QuerySet[Tenant]:
        """Return the tenants to which the step applies."""
        return tenants.exclude(reduce(or_, (obstacle.rows for obstacle in self.obstacles), Q(pk__in=[])))

    def count_reasons(self, tenants: QuerySet[Tenant]) -> dict[str, int]:
        """Return how many of the tenants have each reason; the number without a reason is under ""."""
        cases = [When(obstacle.rows, then=Value(obstacle.reason)) for obstacle in self.obstacles]
        reasons = tenants.order_by().annotate(reason=Case(*cases, default=Value("")))
        return dict(reasons.values_list("reason").annotate(count=Count("pk")))


def _sync(tenant: Tenant, *, acting_user: Any, options: Options) -> None:
    with acting(acting_user):
        synced = services.TenantService.refresh_from_clerk(tenant)
    if synced.deleted_at is not None:
        raise OrganizationDeleted(
            "Its organization was deleted in Clerk. The tenant is now deactivated; its rows are kept."
        )


def _create_in_clerk(tenant: Tenant, *, acting_user: Any, options: Options) -> None:
    create_organization_for(
        tenant,
        acting_user=acting_user,
        owner=options.get("owner") or None,
        snapshot=options.get("snapshot"),
    )


def _find_created(tenant_ids: Sequence[int]) -> Options:
    """Return a listing of Clerk with the organizations that were created for the tenants earlier."""
    return {"snapshot": take_snapshot(tenant_ids)}


def _unlink(tenant: Tenant, *, acting_user: Any, options: Options) -> None:
    services.unlink(tenant, acting_user=acting_user)


def _restore(tenant: Tenant, *, acting_user: Any, options: Options) -> None:
    services.restore(tenant, acting_user=acting_user)


def _suspend(tenant: Tenant, *, acting_user: Any, options: Options) -> None:
    services.suspend(tenant, reason=options.get("reason", ""), acting_user=acting_user)


def _deactivate(tenant: Tenant, *, acting_user: Any, options: Options) -> None:
    services.deactivate(tenant, acting_user=acting_user)


def _reactivate(tenant: Tenant, *, acting_user: Any, options: Options) -> None:
    services.reactivate(tenant, acting_user=acting_user)


def _delete(tenant: Tenant, *, acting_user: Any, options: Options) -> None:
    services.delete(
        tenant,
        acting_user=acting_user,
        delete_clerk_organization=bool(options.get("delete_clerk_organization")),
    )


STEPS: Mapping[str, Step] = {
    step.key: step
    for step in (
        Step(
            "sync",
            "Sync from Clerk",
            "synced from Clerk",
            "tenants.sync_tenant",
            _sync,
            [LEGACY],
            lists_members=True,
        ),
        Step(
            "create_in_clerk",
            "Create in Clerk",
            "created in Clerk",
            "tenants.migrate_tenant",
            _create_in_clerk,
            [LINKED],
            prepare=_find_created,
        ),
        Step(
            "unlink",
            "Unlink",
            "unlinked",
            "tenants.link_tenant",
            _unlink,
            [LEGACY],
            keeps_organization=False,
        ),
        Step(
            "restore",
            "Restore",
            "restored",
            "tenants.sync_tenant",
            _restore,
            [NOT_DELETED],
            lists_members=True,
        ),
        Step("suspend", "Suspend", "suspended", "tenants.change_tenant_status", _suspend, [DELETED]),
        Step(
            "deactivate",
            "Deactivate",
            "deactivated",
            "tenants.change_tenant_status",
            _deactivate,
            [DEACTIVATED],
        ),
        Step(
            "reactivate",
            "Reactivate",
            "reactivated",
            "tenants.change_tenant_status",
            _reactivate,
            [DELETED, ACTIVE],
        ),
        Step("delete", "Delete", "deleted", "tenants.delete_tenant", _delete, keeps_organization=False),
    )
}
"""The steps by key. Linking is not a step of a batch, because each link names an organization.

| step              | options                                                                      |
| ----------------- | ---------------------------------------------------------------------------- |
| `create_in_clerk` | `owner`: a Clerk user id, the first member of a tenant without an own owner  |
| `suspend`         | `reason`                                                                     |
| `delete`          | `delete_clerk_organization`: delete the organization in Clerk first          |
"""
