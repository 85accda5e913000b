"""A migration on the queue, with two workers and Clerk's webhooks flowing back at the same time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from clerk_integration.models import WebhookDelivery
from tenants.backfill.abandoned import finish_abandoned
from tenants.models import CreationAttempt, Membership, SyncRun, Tenant
from tests.sandbox import SandboxControl
from tests.webhooks import PATH
from tests.workers import wait_until, workers_on

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

TENANTS = 100


@pytest.fixture
def old_tenants(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> list[Tenant]:
    users = [str(sandbox.user()["id"]) for _ in range(2 * TENANTS)]
    return [
        legacy(f"Tenant {number}", {users[2 * number]: "owner", users[2 * number + 1]: "member"})
        for number in range(TENANTS)
    ]


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


def all_processed(sandbox: SandboxControl) -> bool:
    sent = {message["id"] for message in sandbox.messages() if message["type"] != "user.created"}
    done = WebhookDelivery.objects.filter(status="processed", svix_id__in=sent)
    return len(sent) >= 3 * TENANTS and done.count() == len(sent)


def assert_each_linked_once(sandbox: SandboxControl, tenants: list[Tenant]) -> None:
    organizations = sandbox.api("GET", "/organizations", limit=500)["data"]
    assert len(organizations) == TENANTS
    linked = {tenant.pk: tenant.clerk_org_id for tenant in Tenant.objects.all()}
    assert set(linked) == {tenant.pk for tenant in tenants}
    assert set(linked.values()) == {organization["id"] for organization in organizations}
    assert Membership.objects.filter(clerk_membership_id__isnull=False).count() == 2 * TENANTS
    assert not CreationAttempt.objects.exclude(answer__backfilled=True).exists()


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("options", [["--enqueue"], []], ids=["by workers", "by the command"])
def test_migration_with_webhooks_and_two_workers_leaves_one_row_per_tenant(
    sandbox: SandboxControl, old_tenants: list[Tenant], tmp_path: Path, options: list[str]
) -> None:
    with workers_on(tmp_path, "config.settings") as workers:
        workers.start()
        workers.start()
        call_command("migrate_tenants_to_clerk", *options)
        wait_until(lambda: SyncRun.objects.get().state != "running")
        wait_until(lambda: all_processed(sandbox))

        run = SyncRun.objects.get()
        assert (run.state, run.created, run.failed) == ("completed", TENANTS, 0), run.error
    assert_each_linked_once(sandbox, old_tenants)


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

    CreationAttempt.objects.update(sent_at="2020-01-01T00:00Z")

    assert finish_abandoned() == 1
    assert sandbox.api("GET", "/organization_memberships")["total_count"] == 2
    assert Membership.objects.filter(tenant=tenant, clerk_membership_id__isnull=False).count() == 2
    assert finish_abandoned() == 0
