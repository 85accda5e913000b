"""A migration on the queue, with two workers and Clerk's webhooks flowing back at the same time."""

import csv
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now

from clerk_integration.models import WebhookDelivery
from tenants.backfill.abandoned import finish_abandoned
from tenants.models import CreationAttempt, Membership, SyncRun, Tenant
from tests.sandbox import SandboxControl
from tests.tenants.backfill.test_migration_kills import assert_one_each
from tests.tenants.conftest import OLD_MEMBERS
from tests.webhooks import PATH
from tests.workers import wait_until, workers_on

DEADLINE = 600.0

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connected(
    sandbox: SandboxControl, settings: Any, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Clerk's webhooks come to us, and workers know Clerk."""
    settings.CLERK_WEBHOOK_SIGNING_SECRET = [sandbox.description["webhookSigningSecret"]]
    monkeypatch.setenv("CLERK_API_URL", sandbox.description["apiUrl"])
    monkeypatch.setenv("CLERK_SECRET_KEY", sandbox.description["secretKey"])
    monkeypatch.setenv("CLERK_INSTANCE_ID", sandbox.description["instanceId"])
    sandbox.webhooks(url=f"{live_server.url}{PATH}")
    yield
    sandbox.reset()
    with connection.cursor() as cursor:  # Threads of the server wait with theirs for Clerk's next request.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def all_processed(sandbox: SandboxControl, tenants: int) -> bool:
    """Whether everything has arrived: an organization and each of its members make a message."""
    sent = {message["id"] for message in sandbox.messages() if message["type"] != "user.created"}
    done = WebhookDelivery.objects.filter(status="processed", svix_id__in=sent)
    return len(sent) >= (1 + len(OLD_MEMBERS)) * tenants and done.count() == len(sent)


SLOW_AND_LARGE = [
    pytest.param(100, ["--enqueue"], marks=pytest.mark.slow, id="by workers"),
    pytest.param(100, [], marks=pytest.mark.slow, id="by the command"),
    pytest.param(2000, ["--enqueue"], marks=pytest.mark.manual, id="2000 by workers"),
    pytest.param(2000, [], marks=pytest.mark.manual, id="2000 by the command"),
]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(("old_tenants", "options"), SLOW_AND_LARGE, indirect=["old_tenants"])
def test_migration_with_webhooks_and_two_workers_leaves_one_row_per_tenant(
    sandbox: SandboxControl, old_tenants: list[Tenant], tmp_path: Path, options: list[str]
) -> None:
    with workers_on(tmp_path, "config.settings") as workers:
        workers.start()
        workers.start()
        call_command("migrate_tenants_to_clerk", *options)
        wait_until(lambda: SyncRun.objects.get().state != "running", seconds=DEADLINE)
        wait_until(lambda: all_processed(sandbox, len(old_tenants)), seconds=DEADLINE)

        run = SyncRun.objects.get()
        assert (run.state, run.created, run.failed) == ("completed", len(old_tenants), 0), run.error
    assert_one_each(sandbox, old_tenants)
    assert not CreationAttempt.objects.exclude(answer__backfilled=True).exists()


WRONG = 30
BAD = (
    {"name": ""},
    {"name": "x" * 257},
    {"name": "See https://acme.test"},
    {"name": "<b>Acme</b>"},
    {"name": "Acme\u202etxt"},
    {"name": "Acme\nSons"},
    {"slug": "Not_A_Slug"},
    {"slug": "taken"},
)
"""Eight ways in which Clerk would refuse a tenant; the other two are owners."""


@pytest.fixture
def two_hundred(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> tuple[set[int], set[int]]:
    """Make 200 legacy tenants, 30 of them wrong in ten ways; return the ids of the good and the wrong."""
    sandbox.organization("Other", slug="taken")
    owner = str(sandbox.user()["id"])
    tenants = [legacy(f"Tenant {number}", {owner: "owner"}) for number in range(200)]
    wrong = tenants[::6][:WRONG]
    for number, tenant in enumerate(wrong):
        match number % 10:
            case 8:
                Membership.objects.filter(tenant=tenant).update(role="member")
            case 9:
                Membership.objects.filter(tenant=tenant).update(clerk_user_id="user_ghost")
            case way:
                Tenant.objects.filter(pk=tenant.pk).update(**BAD[way])
    ids = {tenant.pk for tenant in wrong}
    return {tenant.pk for tenant in tenants} - ids, ids


def named(run: SyncRun) -> dict[int, str]:
    """Return the reasons that the run names, by the id of the tenant."""
    lines = [line.removeprefix("tenant ").partition(": ") for line in run.error.splitlines()]
    return {int(tenant_id): reason for tenant_id, _, reason in lines}


@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_migration_of_200_tenants_with_30_wrong_and_a_killed_worker_does_the_170_and_names_the_30(
    sandbox: SandboxControl,
    two_hundred: tuple[set[int], set[int]],
    migrate: Callable[..., Any],
    tmp_path: Path,
) -> None:
    good, wrong = two_hundred
    report = tmp_path / "plan.csv"
    plan = migrate("--dry-run", "--report", str(report))
    assert (plan["create"], plan["conflict"]) == (len(good), len(wrong)) == (170, 30)
    planned = {int(row["tenant_id"]): row for row in csv.DictReader(report.read_text().splitlines())}
    foreseen = {pk: row["error"] for pk, row in planned.items() if row["action"] == "conflict"}
    assert set(foreseen) == wrong

    with workers_on(tmp_path, "config.settings") as workers:
        first = workers.start()
        workers.start()
        sandbox.fault(
            "POST /v1/organizations", status=403, body="<html>Forbidden</html>", contentType="text/html"
        )
        sandbox.settings(latencyMs=50)
        migrate("--enqueue")
        linked = Tenant.objects.exclude(clerk_org_id=None)
        wait_until(lambda: linked.count() > 40, seconds=DEADLINE)
        first.kill()
        wait_until(lambda: SyncRun.objects.get().state != "running", seconds=DEADLINE)

    run = SyncRun.objects.get()
    [edge] = set(named(run)) - wrong
    # The killed worker may have linked a tenant without recording it; the repeated slice skips that one.
    done = run.created + run.updated + run.unchanged
    assert (run.state, done, run.failed) == ("failed", 169, 31), run.error
    reasons = named(run)
    assert {pk: reasons[pk] for pk in wrong} == foreseen
    assert f"tenant {edge}: Clerk's edge refused the request (403)" in run.error

    again = migrate()

    assert (again["created"], again["conflict"], again["failed"]) == (1, 30, 0)
    assert named(SyncRun.objects.first() or run) == foreseen
    # The workers may have mirrored "Other", too.
    linked = Tenant.objects.filter(pk__in=good | wrong).exclude(clerk_org_id=None)
    assert set(linked.values_list("pk", flat=True)) == good
    assert sandbox.api("GET", "/organizations")["total_count"] == 171


@pytest.mark.slow
def test_migration_that_nobody_runs_again_is_finished_by_the_workers_job(
    sandbox: SandboxControl, legacy: Callable[..., Tenant]
) -> None:
    owner, member = (sandbox.user()["id"] for _ in range(2))
    tenant = legacy("Acme", {owner: "owner", member: "member"})
    call_command("migrate_tenants_to_clerk")
    [organization] = sandbox.api("GET", "/organizations")["data"]
    sandbox.api("DELETE", f"/organizations/{organization['id']}/memberships/{member}")
    Membership.objects.filter(clerk_user_id=member).update(clerk_membership_id=None)
    CreationAttempt.objects.update(answer={"clerk_org_id": organization["id"]})
    assert finish_abandoned() == 0  # Somebody may be at it still.

    CreationAttempt.objects.update(sent_at=Now() - timedelta(minutes=2, seconds=5))

    assert finish_abandoned() == 1
    assert sandbox.api("GET", "/organization_memberships")["total_count"] == 2
    assert Membership.objects.filter(tenant=tenant, clerk_membership_id__isnull=False).count() == 2
    assert finish_abandoned() == 0
