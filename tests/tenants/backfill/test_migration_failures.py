"""A migration isolates the failure of one tenant, and stops for a cause that every tenant would meet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from django.db import connection

from tenants.backfill.run import migrate_slice
from tenants.models import CreationAttempt, SyncRun, Tenant
from tenants.runs.failures import FailedAlike
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)

Json = dict[str, Any]
Migrate = Callable[..., Json]

POST = "POST /v1/organizations"
EDGE = {"status": 403, "body": "<html>Forbidden</html>", "contentType": "text/html"}
UNKNOWN_CODE = {
    "body": '{"errors": [{"code": "a_new_code", "message": "No.", "long_message": "No, thank you."}]}',
    "contentType": "application/json",
}


@pytest.fixture
def nine(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> list[Tenant]:
    return [legacy(f"Tenant {number}", {str(sandbox.user()["id"]): "owner"}) for number in range(9)]


def legacy_ids() -> list[int]:
    return list(Tenant.objects.filter(clerk_org_id=None).values_list("pk", flat=True))


@pytest.mark.parametrize(
    "refusal",
    [
        (EDGE, "failed", "Clerk's edge refused the request (403)"),
        pytest.param(({"status": 403, **UNKNOWN_CODE}, "failed", "a_new_code"), marks=pytest.mark.slow),
        ({"status": 422, **UNKNOWN_CODE}, "conflict", "No, thank you."),
        pytest.param(({"status": 418, **UNKNOWN_CODE}, "conflict", "No, thank you."), marks=pytest.mark.slow),
    ],
)
def test_migration_one_tenant_that_clerk_refuses_fails_alone_and_is_named(
    sandbox: SandboxControl, nine: list[Tenant], migrate: Migrate, refusal: tuple[Json, str, str]
) -> None:
    fault, result, reason = refusal
    sandbox.fault(POST, **fault)

    summary = migrate("--concurrency", "1")

    assert (summary["code"], summary["created"], summary[result]) == (1, 8, 1)
    assert legacy_ids() == [nine[0].pk]
    [problem] = SyncRun.objects.get().error.splitlines()
    assert problem.startswith(f"tenant {nine[0].pk}: ")
    assert reason in problem
    assert "1 tenant was not migrated completely" in summary["error"]
    assert migrate()["created"] == 1


def test_migration_one_tenant_that_the_database_refuses_fails_alone_and_is_finished_by_a_rerun(
    sandbox: SandboxControl, nine: list[Tenant], migrate: Migrate
) -> None:
    with refusing_to_link(nine[4]):
        summary = migrate()
        CreationAttempt.objects.update(sent_at="2020-01-01T00:00Z")
        again = migrate()

    assert (summary["created"], summary["failed"], summary["state"]) == (8, 1, "failed")
    assert (again["tenants"], again["failed"]) == (1, 1)
    CreationAttempt.objects.update(sent_at="2020-01-01T00:00Z")
    assert (migrate()["adopted"], legacy_ids()) == (1, [])
    assert f"tenant {nine[4].pk}: IntegrityError: " in SyncRun.objects.order_by("pk")[0].error
    assert sandbox.api("GET", "/organizations")["total_count"] == 9


@contextmanager
def refusing_to_link(tenant: Tenant) -> Iterator[None]:
    """Let the database refuse to link one tenant."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE tenants ADD CONSTRAINT refused CHECK (id <> {tenant.pk} OR clerk_org_id IS NULL)"
        )
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE tenants DROP CONSTRAINT refused")


@pytest.mark.parametrize("concurrency", [pytest.param("1", marks=pytest.mark.slow), "3"])
def test_migration_five_tenants_in_a_row_that_fail_alike_stop_it(
    sandbox: SandboxControl, nine: list[Tenant], migrate: Migrate, concurrency: str
) -> None:
    sandbox.fault(POST, times=9, **EDGE)

    summary = migrate("--concurrency", concurrency)

    assert summary["error"].startswith("Stopped: tenant ")
    assert (
        "failed one after another for the same reason: Clerk's edge refused the request" in summary["error"]
    )
    assert (summary["state"], summary["created"]) == ("failed", 0)
    assert 5 <= summary["failed"] <= 5 + int(concurrency)
    sandbox.clear_faults()
    assert migrate()["created"] == 9


def test_migration_four_tenants_in_a_row_that_fail_alike_do_not_stop_it(
    sandbox: SandboxControl, nine: list[Tenant], migrate: Migrate
) -> None:
    sandbox.fault(POST, times=4, **EDGE)

    summary = migrate("--concurrency", "1")

    assert (summary["created"], summary["failed"]) == (5, 4)


@pytest.mark.parametrize(
    ("fault", "tries_again"), [(EDGE, False), ({"status": 503}, True)], ids=["refused", "outage"]
)
def test_migration_slice_of_workers_that_fails_alike_is_tried_again_after_an_outage_only(
    sandbox: SandboxControl, nine: list[Tenant], migrate: Migrate, fault: Json, *, tries_again: bool
) -> None:
    run_id = migrate("--enqueue")["run"]
    sandbox.fault(POST, times=5, **fault)

    with pytest.raises(FailedAlike) if tries_again else nullcontext():
        migrate_slice(run_id, "tenants", 0)

    assert SyncRun.objects.get().slices.filter(closed_at=None).count() == (2 if tries_again else 1)
    assert SyncRun.objects.get().failed == (0 if tries_again else 5)


def test_migration_stops_while_clerk_cannot_be_reached(
    sandbox: SandboxControl, nine: list[Tenant], migrate: Migrate
) -> None:
    sandbox.fault(POST, times=9, status=503)

    summary = migrate("--concurrency", "1")

    assert summary["error"].startswith("Stopped: tenant ")
    assert "Clerk cannot serve the request" in summary["error"]
    assert len(sandbox.requests("POST", "/v1/organizations")) == 5
