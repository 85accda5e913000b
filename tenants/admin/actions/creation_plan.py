"""The plan of the organizations to create, which is shown before they are created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkError
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.admin.actions.failures import explain
from tenants.backfill.plan import PlanRow, make_plan
from tenants.batches.run import MAX_TENANTS
from tenants.exceptions import TenantError
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class CreationPlan:
    """A row for each tenant, or the reason why there is no plan."""

    rows: Sequence[PlanRow] = ()
    error: str = ""

    @property
    def complete(self) -> bool:
        """Whether every tenant can be created as planned."""
        return bool(self.rows) and all(row.draft for row in self.rows)


def plan_of(tenants: QuerySet[Tenant]) -> CreationPlan | None:
    """Return the plan of a few tenants; None for more than a request may create. Calls Clerk."""
    ids = list(tenants.values_list("pk", flat=True)[: MAX_TENANTS + 1])
    if len(ids) > MAX_TENANTS:
        return None
    try:
        with clerk_deadline(clerk_settings.timeout_seconds):
            return CreationPlan(make_plan(tenant_ids=ids).rows)
    except (TenantError, ClerkError) as error:
        return CreationPlan(error=explain(error))
