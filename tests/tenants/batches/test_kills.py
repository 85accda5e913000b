"""A batch of 300 tenants by real worker processes, one of which is killed in the middle."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User

from clerk_integration.models import LearnedInstance
from tenants.batches.run import start
from tenants.batches.steps import STEPS
from tenants.models import SyncRun, Tenant, TenantHistory
from tests.children import child_environment
from tests.sandbox import SandboxControl
from tests.tenants.batches.conftest import counts, outcomes
from tests.workers import wait_until, workers_on

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

NUMBER = 300


@pytest.fixture
def linked(sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> list[Tenant]:
    """Tenants with an outdated name, whose organizations the workers' Clerk has."""
    for name, value in child_environment(sandbox.description).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLERK_RATE_LIMIT", "1000")
    LearnedInstance.objects.create(instance_id=sandbox.description["instanceId"])
    return Tenant.objects.bulk_create(
        Tenant(name="Old", clerk_org_id=sandbox.organization(f"New {number}")["id"])
        for number in range(NUMBER)
    )


def tried(run: SyncRun) -> int:
    return sum(counts(run))


def test_sync_of_300_tenants_with_a_killed_worker_does_every_tenant(
    linked: list[Tenant], boss: User, tmp_path: Path
) -> None:
    with workers_on(tmp_path) as workers:
        first = workers.start()
        run = start(STEPS["sync"], Tenant.objects.all(), acting_user=boss)
        wait_until(lambda: tried(run) >= 40)
        first.kill()
        left = NUMBER - tried(run)
        assert left > 0
        workers.start()
        wait_until(lambda: SyncRun.objects.get().state != "running")

    assert (counts(run), run.state, run.error) == ((NUMBER, 0, 0), "completed", "")
    assert outcomes(run) == {tenant.pk: "done" for tenant in linked}
    assert not Tenant.objects.filter(name="Old").exists()
    renamed = TenantHistory.objects.filter(action="renamed")
    assert renamed.count() == NUMBER
    assert set(renamed.values_list("source", "actor")) == {("staff", "boss")}


def test_same_batch_twice_by_two_workers_changes_no_tenant_twice(
    linked: list[Tenant], boss: User, tmp_path: Path
) -> None:
    with workers_on(tmp_path) as workers:
        runs = [
            start(STEPS["suspend"], Tenant.objects.all(), acting_user=boss, options={"reason": "unpaid"})
            for _ in range(2)
        ]
        workers.start()
        workers.start()
        wait_until(lambda: not SyncRun.objects.filter(state="running").exists())

    assert [counts(run) for run in runs] == [(NUMBER, 0, 0)] * 2
    assert TenantHistory.objects.filter(action="suspended").count() == NUMBER
