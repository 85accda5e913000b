"""Measure how much the mirror may differ from Clerk."""

from dataclasses import dataclass
from datetime import datetime

from tenants.mirror import writer
from tenants.models import Tenant
from tenants.monitoring.numbers import unresolved_creations
from tenants.reconcile import Comparison, compare_with_clerk
from tenants.runs import records


@dataclass(frozen=True, slots=True)
class DriftReport:
    """How much the mirror may differ from Clerk; `clerk` is None if Clerk was not asked."""

    last_complete_sync_at: datetime | None
    """The start of the last completed full sync of organizations and memberships."""
    age_seconds: float | None
    linked: int
    """Tenants with an organization that is not recorded as deleted."""
    deleted: int
    legacy: int
    unresolved_creations: int
    clerk: Comparison | None = None
    """The result of the comparison with Clerk; None if Clerk was not asked."""


def drift_report(*, with_clerk: bool = False) -> DriftReport:
    """Return the report; write nothing.

    By default, run only a few statements and call no API. `with_clerk` compares all records with Clerk, one
    request for each 500 records; then raise WrongInstance, ListingIncomplete and ClerkError.
    """
    last = records.last_complete(cursor__skip_memberships=False)
    return DriftReport(
        last_complete_sync_at=last.started_at if last else None,
        age_seconds=(writer.clock() - last.started_at).total_seconds() if last else None,
        linked=Tenant.objects.filter(clerk_org_id__isnull=False, deleted_at=None).count(),
        deleted=Tenant.objects.filter(deleted_at__isnull=False).count(),
        legacy=Tenant.objects.filter(clerk_org_id=None).count(),
        unresolved_creations=unresolved_creations().count,
        clerk=compare_with_clerk(lambda difference: None) if with_clerk else None,
    )
