"""The drift report: what is known here, and what a comparison with Clerk adds."""

from collections.abc import Callable

import pytest

from tenants.models import CreationAttempt, Tenant
from tenants.monitoring.drift import drift_report
from tenants.reconcile import Comparison, run_full_sync
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)


def test_report_without_clerk_counts_the_mirror(
    sandbox: SandboxControl, legacy: Callable[..., Tenant]
) -> None:
    assert drift_report().last_complete_sync_at is None
    sandbox.reset(organizations=2, users=2, membershipsPerOrganization=1)
    run_full_sync()
    legacy()
    CreationAttempt.objects.create(clerk_user_id="user_ada", body_hash="")
    sandbox.clear_requests()

    report = drift_report()

    assert (report.linked, report.legacy, report.deleted, report.unresolved_creations) == (2, 1, 0, 1)
    assert report.age_seconds is not None
    assert report.clerk is None
    assert sandbox.requests() == []


def test_a_run_without_memberships_is_not_complete(sandbox: SandboxControl) -> None:
    run_full_sync(skip_memberships=True)

    assert drift_report().last_complete_sync_at is None


def test_report_with_clerk_counts_the_differences(sandbox: SandboxControl) -> None:
    sandbox.reset(organizations=2, users=2, membershipsPerOrganization=1)
    run_full_sync()
    tenant = Tenant.objects.earliest("id")
    sandbox.api("PATCH", f"/organizations/{tenant.clerk_org_id}", {"name": "New name"})
    sandbox.organization("Another")

    report = drift_report(with_clerk=True)

    assert report.clerk == Comparison(unchanged=3, missing_from_mirror=1, changed=1)
