"""The dry run of the night."""

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from tenants.models import SyncRun, Tenant
from tenants.monitoring.numbers import drift
from tenants.reconcile import run_full_sync
from tenants.tasks import FULL_SYNC, dry_run_then_full_sync
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)


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
