"""The numbers that are read together."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clerk_integration.models import WebhookDelivery
from clerk_integration.reachability import store_reachability
from tenants.models import CreationAttempt, SyncRun, Tenant
from tenants.monitoring.overview import Count, tenant_numbers, work_numbers
from tenants.reconcile import run_full_sync
from tests.sandbox import SandboxControl
from tests.workers import empty_queue

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


def make_linked(number: int, **columns: Any) -> Tenant:
    return Tenant.objects.create(clerk_org_id=f"org_{number}", name=f"Tenant {number}", **columns)


def test_tenant_numbers_count_each_state(legacy: Callable[..., Tenant]) -> None:
    now = timezone.now()
    legacy()
    legacy(status="suspended")
    make_linked(1)
    make_linked(2, last_synced_at=now - 2 * DAY)
    make_linked(3, last_synced_at=now)
    make_linked(4, last_synced_at=now - 2 * DAY, status="deactivated", deleted_at=now)

    numbers = tenant_numbers()

    assert {name: getattr(numbers, name).number for name in numbers.__slots__} == {
        "total": 6,
        "linked": 4,
        "legacy": 2,
        "suspended": 1,
        "deactivated": 1,
        "deleted": 1,
        "never_synced": 1,
        "out_of_date": 1,
        "drifted": 0,
    }


@pytest.mark.parametrize(
    ("run", "out_of_date"),
    [
        ({"started_at": Now() - DAY / 2, "cursor": {"skip_memberships": False}}, 0),
        ({"started_at": Now() - DAY / 2, "cursor": {"skip_memberships": True}}, 1),
        ({"started_at": Now() - 2 * DAY, "cursor": {"skip_memberships": False}}, 1),
        ({"started_at": Now(), "cursor": {"skip_memberships": False}, "state": "failed"}, 1),
    ],
)
def test_tenant_unchanged_by_a_complete_sync_is_up_to_date(run: dict[str, Any], out_of_date: int) -> None:
    make_linked(1, last_synced_at=timezone.now() - 2 * DAY)
    SyncRun.objects.create(**{"kind": "full_sync", "state": "completed"} | run)

    assert tenant_numbers().out_of_date == Count(out_of_date)


def test_work_numbers_without_any_work_are_empty() -> None:
    empty_queue()
    numbers = work_numbers()

    assert (numbers.last_complete_sync, numbers.instance_id, numbers.clerk) == (None, None, None)
    assert (numbers.due_jobs.count, numbers.due_jobs.oldest, numbers.live_workers) == (Count(0), None, 0)


def test_work_numbers_count_deliveries_runs_and_creations(sandbox: SandboxControl) -> None:
    sandbox.reset(organizations=1, users=1, membershipsPerOrganization=1)
    run_full_sync()
    SyncRun.objects.create(kind="migration", state="failed")
    SyncRun.objects.create(kind="import", state="running")
    CreationAttempt.objects.create(clerk_user_id="user_ada", body_hash="")
    for number, status in enumerate(["failed", "failed", "received", "processed"]):
        WebhookDelivery.objects.create(svix_id=f"msg_{number}", event_type="x", status=status)
    sandbox.clear_requests()

    numbers = work_numbers()

    assert (numbers.failed_deliveries, numbers.received_deliveries) == (Count(2), Count(1))
    assert (numbers.running_runs, numbers.failed_runs) == (Count(1), Count(1))
    assert numbers.unresolved_creations == Count(1)
    assert numbers.last_complete_sync is not None
    assert numbers.instance_id == sandbox.description["instanceId"]
    assert numbers.due_deliveries.count == Count(3)
    assert sandbox.requests() == []


def test_check_clerk_stores_whether_clerk_answers_and_since_when(sandbox: SandboxControl) -> None:
    store_reachability()
    first = work_numbers().clerk
    store_reachability()
    second = work_numbers().clerk
    sandbox.fault(match="GET /v1/jwks", status=503)
    store_reachability()
    third = work_numbers().clerk

    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.error, second.error, second.changed_at) == ("", "", first.changed_at)
    assert second.checked_at > first.checked_at
    assert "503" in third.error
    assert third.changed_at == third.checked_at


def test_numbers_take_one_statement_each() -> None:
    for read in (tenant_numbers, work_numbers):
        with CaptureQueriesContext(connection) as queries:
            read()
        assert len(queries) == 1


def test_tenant_numbers_of_many_are_estimates_from_indexes() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tenants (name, clerk_org_id, last_synced_at, status)"
            " SELECT 'Tenant ' || n, CASE WHEN n > 10500 THEN 'org_' || n END, '2020-01-01',"
            " CASE WHEN n > 50 THEN 'active' ELSE 'suspended' END FROM generate_series(1, 21500) AS n"
        )
        cursor.execute("ANALYZE tenants")

    numbers = tenant_numbers()

    assert numbers.total == Count(21_500, "about")
    assert numbers.linked == Count(11_000, "about")
    assert numbers.legacy == Count(10_500, "about")
    assert numbers.suspended == Count(50)
    assert str(numbers.out_of_date) == "more than 10,000"


def test_work_numbers_of_many_due_deliveries_say_that_there_are_more() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO webhook_deliveries (svix_id, event_type, payload, status, due_at)"
            " SELECT 'msg_' || n, 'x', '{}', 'received', '2020-01-01' FROM generate_series(1, 10001) AS n"
        )

    assert work_numbers().due_deliveries.count == Count(10_000, "more than")
