"""The drift report: what is known here, and what a comparison with Clerk adds."""

from collections.abc import Callable

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from tenants.models import CreationAttempt, SyncRun, Tenant
from tenants.monitoring.drift import drift_report
from tenants.monitoring.numbers import drift
from tenants.reconcile import Comparison, run_full_sync
from tenants.tasks import FULL_SYNC, dry_run_then_full_sync
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


def test_dry_run_of_the_night_is_recorded_and_a_full_sync_follows(sandbox: SandboxControl) -> None:
    sandbox.reset(organizations=3, users=3, membershipsPerOrganization=1)
    run_full_sync()
    sandbox.organization("Another")
    before = list(Tenant.objects.values())

    dry_run_then_full_sync()

    assert list(Tenant.objects.values()) == before
    found = drift()
    assert found is not None
    assert (found.total, found.differences["missing_from_mirror"]) == (1, 1)
    recorded = SyncRun.objects.get(kind=SyncRun.Kind.DRY_RUN)
    assert (recorded.state, recorded.unchanged, recorded.failed) == ("completed", 6, 0)
    assert ProcrastinateJob.objects.filter(task_name=FULL_SYNC, status="todo").count() == 1


def test_dry_run_that_fails_is_recorded_and_the_full_sync_follows_nevertheless(
    sandbox: SandboxControl, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.fault("GET /v1/organizations", status=401, times=9)

    dry_run_then_full_sync()

    assert SyncRun.objects.get(kind=SyncRun.Kind.DRY_RUN).state == "failed"
    assert drift() is None
    assert ProcrastinateJob.objects.filter(task_name=FULL_SYNC, status="todo").count() == 1
    assert "The nightly dry run failed" in caplog.text
