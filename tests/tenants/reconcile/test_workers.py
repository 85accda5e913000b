"""A full sync on the queue, with real workers that share it, die and freeze on the way."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import Count
from procrastinate.contrib.django.models import ProcrastinateJob

from tenants.models import Membership, SyncRun, Tenant
from tests.sandbox import SandboxControl
from tests.tenants.reconcile.test_full_sync import row_versions
from tests.workers import Worker, Workers, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ORGANIZATIONS = 12_000
"""Three slices of each list."""


@pytest.fixture
def instance(sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxControl]:
    """A Clerk that workers know, and that takes its time for each page."""
    sandbox.reset(organizations=ORGANIZATIONS, users=100, membershipsPerOrganization=1)
    sandbox.settings(latencyMs=200)
    monkeypatch.setenv("CLERK_API_URL", sandbox.description["apiUrl"])
    monkeypatch.setenv("CLERK_SECRET_KEY", sandbox.description["secretKey"])
    monkeypatch.setenv("CLERK_INSTANCE_ID", sandbox.description["instanceId"])
    yield sandbox
    sandbox.settings(latencyMs=0)
    sandbox.reset()


def in_the_middle_of_a_slice(worker: Worker) -> bool:
    """Whether the worker does a slice of which a page is recorded."""
    jobs = ProcrastinateJob.objects.filter(
        task_name="tenants.tasks.sync_slice", status="doing", worker_id=worker.worker_id
    )
    return any(
        SyncRun.objects.filter(
            pages__listing=job.args["part"], pages__slice_number=job.args["number"]
        ).exists()
        for job in jobs
    )


def run() -> SyncRun:
    return SyncRun.objects.get()


def assert_everything_is_there_once() -> None:
    assert (run().state, run().created, run().retired) == ("completed", 2 * ORGANIZATIONS, 0), run().error
    assert run().unchanged == run().updated == 0
    assert Tenant.objects.filter(status="active", deleted_at=None).count() == ORGANIZATIONS
    assert Membership.objects.filter(is_active=True).count() == ORGANIZATIONS
    slices = run().slices.values_list("part").annotate(of=Count("id"), done=Count("closed_at"))
    assert sorted(slices) == [("memberships", 3, 3), ("organizations", 3, 3)]


def test_workers_two_at_a_time_share_a_full_sync(instance: SandboxControl, workers: Workers) -> None:
    for _ in range(2):
        workers.start()
    call_command("sync_from_clerk", "--enqueue")
    wait_until(lambda: run().state != "running")

    assert_everything_is_there_once()
    assert all("tenants.tasks.sync_slice" in worker.log for worker in workers.all)
    assert instance.requests() != []
    before = row_versions()
    call_command("sync_from_clerk")
    assert row_versions() == before


@pytest.mark.parametrize("stop", [Worker.kill, Worker.freeze], ids=["killed", "frozen"])
def test_workers_one_stopped_leaves_its_slices_to_the_other(
    instance: SandboxControl, workers: Workers, stop: Callable[[Worker], Any]
) -> None:
    victim = workers.start()
    call_command("sync_from_clerk", "--enqueue")
    wait_until(lambda: in_the_middle_of_a_slice(victim))
    stop(victim)
    workers.start()
    wait_until(lambda: run().state != "running")

    assert_everything_is_there_once()
    if stop is Worker.freeze:
        before = row_versions()
        victim.thaw()
        wait_until(lambda: "does not wait for slices" in victim.log or "taken over" in victim.log)
        assert (row_versions(), run().state) == (before, "completed")
