"""A full sync on the queue: its slices, in any order and more than once, end where one process ends."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from clerk_integration.exceptions import ClerkMisconfigured, ClerkUnavailable, ListingIncomplete
from clerk_integration.signals import nightly
from clerk_integration.wire import pace
from tenants.exceptions import SyncAlreadyRunning
from tenants.models import Membership, SyncRun, SyncRunPage, Tenant
from tenants.reconcile import run_full_sync
from tenants.reconcile.full_sync import enqueue_full_sync
from tenants.runs import records, slices
from tests.sandbox import SandboxControl
from tests.tenants.api.test_statement_counts import statements
from tests.tenants.reconcile.test_full_sync import listing_requests, oldest_first, row_versions

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = 500


@pytest.fixture
def instance(sandbox: SandboxControl) -> SandboxControl:
    """A Clerk with 1,200 organizations of one member each: three slices of a page, each."""
    sandbox.reset(organizations=1200, users=100, membershipsPerOrganization=1)
    return sandbox


def waiting() -> list[ProcrastinateJob]:
    """The jobs of the queue that a sync uses, as a worker takes them."""
    return list(ProcrastinateJob.objects.filter(queue_name=slices.BULK, status="todo").order_by("pk"))


def do(job: ProcrastinateJob) -> None:
    """Do a job here and now, and take it off the queue as a worker does."""
    ProcrastinateJob.objects.filter(pk=job.pk).update(status="doing")
    try:
        app.tasks[job.task_name](**job.args)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM procrastinate_jobs WHERE id = %s", [job.pk])


def work() -> None:
    """Do all that is on the queue, and what comes of it."""
    while jobs := waiting():
        do(jobs[0])


def enqueue(**options: Any) -> SyncRun:
    return enqueue_full_sync(slice_records=PAGE, **options)


def expire_lease(run: SyncRun) -> None:
    """Let the time of a lease pass that no process has renewed."""
    SyncRun.objects.filter(pk=run.pk).update(lease_expires_at="2020-01-01T00:00Z")


def again(run: SyncRun) -> SyncRun:
    run.refresh_from_db()
    return run


def test_slices_of_workers_mirror_the_same_rows_with_the_same_statements(instance: SandboxControl) -> None:
    run = enqueue()
    instance.clear_requests()
    with statements() as collected:
        work()

    again(run)
    assert (run.state, run.created, run.updated, run.unchanged) == (SyncRun.State.COMPLETED, 2400, 0, 0)
    assert (Tenant.objects.count(), Membership.objects.filter(is_active=True).count()) == (1200, 1200)
    read = len(listing_requests(instance))
    assert read == 2 * 3 + 2 + 1, "a page a slice, the end of each list, and the length of the second list"
    upserts = [sql for sql in collected if "INSERT INTO tenants" in sql or "INSERT INTO memberships" in sql]
    assert len(upserts) == SyncRunPage.objects.count() == 2 * 3 + 2
    before = row_versions()
    assert (run_full_sync().unchanged, row_versions()) == (2400, before)


def test_slices_done_twice_and_out_of_order_change_nothing_more(instance: SandboxControl) -> None:
    run = enqueue()
    first, second, third = waiting()
    for job in (third, second, third, first):
        do(job)
    [conclusion] = waiting()
    work()

    assert (again(run).state, run.created, run.unchanged) == (SyncRun.State.COMPLETED, 2400, 0)
    instance.clear_requests()
    for job in (second, conclusion):  # A worker that was frozen and given up wakes.
        do(job)
    assert (again(run).state, instance.requests()) == (SyncRun.State.COMPLETED, [])


def test_slices_record_between_two_of_them_is_not_missed(instance: SandboxControl) -> None:
    """More are deleted from the slice that was read than slices overlap."""
    ids = oldest_first(instance)
    run = enqueue(skip_memberships=True)
    first, *others = waiting()
    do(first)
    for clerk_org_id in ids[:60]:
        instance.api("DELETE", f"/organizations/{clerk_org_id}")
    for job in others:
        do(job)
    work()

    mirrored = set(Tenant.objects.values_list("clerk_org_id", flat=True))
    assert mirrored >= set(ids[60:])
    assert (again(run).state, run.retired) == (SyncRun.State.COMPLETED, 0), "rows as young as the run"
    assert set(SyncRunPage.objects.values_list("pass_number", flat=True)) == {1, 2}


def test_slices_record_dated_back_into_a_read_one_is_not_missed(instance: SandboxControl) -> None:
    ids = oldest_first(instance)
    run = enqueue(skip_memberships=True)
    do(waiting()[0])
    late = instance.organization("Late", created_at="2020-01-01T00:00:00Z")["id"]
    work()

    assert set(Tenant.objects.values_list("clerk_org_id", flat=True)) == {*ids, late}
    assert again(run).state == SyncRun.State.COMPLETED


def test_slices_records_added_meanwhile_are_read_at_the_end(instance: SandboxControl) -> None:
    run = enqueue(skip_memberships=True)
    for job in reversed(waiting()):
        do(job)
        instance.organization("Late")
    work()

    assert (again(run).state, Tenant.objects.count()) == (SyncRun.State.COMPLETED, 1203)
    assert set(SyncRunPage.objects.values_list("pass_number", flat=True)) == {1}


def test_slices_all_read_retires_missing_rows(instance: SandboxControl) -> None:
    gone, kept = oldest_first(instance)[:2]
    leaver = instance.user()["id"]
    instance.membership(kept, leaver)
    run_full_sync()
    instance.api("DELETE", f"/organizations/{gone}")
    instance.api("DELETE", f"/organizations/{kept}/memberships/{leaver}")
    run = enqueue()
    for job in waiting()[:2]:
        do(job)
    assert not Tenant.objects.filter(deleted_at__isnull=False).exists()
    work()

    assert (again(run).state, run.retired) == (SyncRun.State.COMPLETED, 2)
    assert Tenant.objects.get(deleted_at__isnull=False).clerk_org_id == gone
    ended = Membership.objects.filter(is_active=False).values_list("tenant__clerk_org_id", flat=True)
    assert (ended.count(), set(ended)) == (2, {gone, kept})


def test_slices_too_many_missing_write_the_rest_and_retire_nothing(instance: SandboxControl) -> None:
    run_full_sync()
    gone, kept = oldest_first(instance)[:20], oldest_first(instance)[20]
    run = enqueue(max_retire_percent=1)
    for clerk_org_id in gone:
        instance.api("DELETE", f"/organizations/{clerk_org_id}")
    instance.membership(kept, instance.user()["id"])
    work()

    assert (again(run).state, "20 of 1200 organizations" in run.error) == (SyncRun.State.FAILED, True)
    assert not Tenant.objects.filter(deleted_at__isnull=False).exists()
    assert Membership.objects.filter(is_active=True).count() == 1201


def test_slices_list_that_never_stands_still_fails_the_run(instance: SandboxControl) -> None:
    run = enqueue(skip_memberships=True)
    for job in waiting():
        do(job)
    page = instance.api("GET", "/organizations", limit=1, offset=1199)
    instance.fault("GET /v1/organizations", times=9, body=json.dumps({**page, "total_count": 1201}))
    with pytest.raises(ListingIncomplete):
        work()

    assert (again(run).state, "nothing was retired" in run.error) == (SyncRun.State.FAILED, True)


def test_slice_outage_leaves_it_to_a_retry(instance: SandboxControl) -> None:
    run = enqueue(skip_memberships=True)
    job = waiting()[1]
    instance.fault("GET /v1/organizations", times=3, status=503)
    with pytest.raises(ClerkUnavailable):
        app.tasks[job.task_name](**job.args)
    assert again(run).state == SyncRun.State.RUNNING

    work()

    assert (again(run).state, Tenant.objects.count()) == (SyncRun.State.COMPLETED, 1200)


def test_slice_wrong_key_ends_the_run_and_other_slices_do_nothing(
    instance: SandboxControl, settings: Settings
) -> None:
    run = enqueue()
    first, *others = waiting()
    right, settings.CLERK_SECRET_KEY = settings.CLERK_SECRET_KEY, "sk_test_wrong"
    with pytest.raises(ClerkMisconfigured):
        do(first)
    settings.CLERK_SECRET_KEY = right
    instance.clear_requests()
    for job in others:
        do(job)

    assert (again(run).state, instance.requests(), waiting()) == (SyncRun.State.FAILED, [], [])


def test_run_with_only_failed_jobs_is_not_waited_for(instance: SandboxControl) -> None:
    run = enqueue()
    do(waiting()[0])
    assert slices.end_abandoned_runs() == 0
    ProcrastinateJob.objects.all()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed'")

    assert slices.end_abandoned_runs() == 1

    assert (again(run).state, "2 of 3 slices not done" in run.error) == (SyncRun.State.FAILED, True)
    assert slices.end_abandoned_runs() == 0


def test_full_sync_while_another_waits_for_workers_replaces_it(instance: SandboxControl) -> None:
    waits = enqueue()
    done, *others = waiting()
    do(done)
    expire_lease(waits)

    run = run_full_sync()

    assert (again(waits).state, "took its place" in waits.error) == (SyncRun.State.INTERRUPTED, True)
    assert (run.pk != waits.pk, run.state, run.unchanged) == (True, SyncRun.State.COMPLETED, 500)
    for job in others:
        do(job)
    assert (again(waits).state, again(run).state) == (SyncRun.State.INTERRUPTED, SyncRun.State.COMPLETED)


def test_full_sync_while_workers_read_slices_is_refused(instance: SandboxControl) -> None:
    run = enqueue()
    do(waiting()[0])

    with pytest.raises(SyncAlreadyRunning, match=f"{run.pk} is running already: workers, organizations"):
        run_full_sync()
    with pytest.raises(SyncAlreadyRunning):
        enqueue()


def test_slice_while_another_process_syncs_does_nothing(instance: SandboxControl) -> None:
    enqueue()
    job = waiting()[0]
    run = records.begin(instance_id="", skip_memberships=False)
    do(job)

    assert (again(run).state, Tenant.objects.count()) == (SyncRun.State.RUNNING, 0)


def test_conclude_listing_given_up_by_its_worker_records_nothing_more(
    instance: SandboxControl,
) -> None:
    run = enqueue(skip_memberships=True)
    for job in waiting():
        do(job)
    frozen = again(run)
    records.take_over(frozen, "workers, organizations, concluded by one", expected="workers, organizations")
    work()

    records.finish(frozen, SyncRun.State.FAILED, "too late")

    assert again(run).state == SyncRun.State.COMPLETED


@pytest.mark.parametrize("before", [lambda: None, enqueue_full_sync], ids=["alone", "with one waiting"])
def test_nightly_sync_run_twice_is_enqueued_once(
    instance: SandboxControl, before: Callable[[], object]
) -> None:
    before()
    for _ in range(2):
        nightly.send(sender=None)
    work()

    syncs = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC)
    assert [run.state for run in syncs] == [SyncRun.State.COMPLETED]
    assert Tenant.objects.count() == 1200


def test_slice_jobs_keep_to_the_shared_pace(instance: SandboxControl) -> None:
    """Pages are fetched ahead by a thread of their own, which must wait for its turn as well."""
    enqueue(skip_memberships=True)
    with pace.paced():
        pace.postpone(0)  # Gives up the slots that this process has reserved, in an earlier test.
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM clerk_pace")
        work()
        cursor.execute("SELECT count(*) FROM clerk_pace")
        assert cursor.fetchone() == (1,)
