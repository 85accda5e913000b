"""A migration that is killed in its critical sections and run again makes one organization per tenant.

The child process is held inside the critical section, seen to be there, and killed with SIGKILL.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connection, transaction

from tenants.mirror import locks
from tenants.models import CreationAttempt, Membership, SyncRun, Tenant
from tenants.runs.records import DIED
from tests.sandbox import SandboxControl
from tests.tenants.conftest import OLD_MEMBERS, OLD_TENANTS
from tests.tenants.reconcile.test_queue import expire_lease
from tests.workers import database_url

pytestmark = pytest.mark.django_db(transaction=True)

KILLS = 20
DEADLINE = 120.0
POST = "POST /v1/organizations"
POST_MEMBER = "POST /v1/organizations/*/memberships"

Child = subprocess.Popen[str]
Hold = Callable[[SandboxControl, Callable[[], Child]], Child]


@pytest.fixture
def start(sandbox: SandboxControl) -> Iterator[Callable[[], Child]]:
    """Start the command in a process of its own, one tenant at a time."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "CLERK_API_URL": sandbox.description["apiUrl"],
        "CLERK_SECRET_KEY": sandbox.description["secretKey"],
        "CLERK_RATE_LIMIT": "10000",
    }
    children: list[Child] = []

    def run() -> Child:
        command = [sys.executable, "manage.py", "migrate_tenants_to_clerk", "--concurrency", "1", "--json"]
        child = subprocess.Popen(
            command, cwd=django_settings.BASE_DIR, env=environment, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not get there"
        time.sleep(0.01)


def unanswered(sandbox: SandboxControl, path_ends: str) -> bool:
    return any(
        call["method"] == "POST" and call["path"].endswith(path_ends) and call["status"] is None
        for call in sandbox.requests()
    )


def total(sandbox: SandboxControl, path: str) -> int:
    return int(sandbox.api("GET", path, limit=1)["total_count"])


def hold_reply_of_organization(sandbox: SandboxControl, start: Callable[[], Child]) -> Child:
    """Clerk has the organization and has not answered."""
    before = total(sandbox, "/organizations")
    sandbox.fault(POST, timeoutSeconds=20)
    child = start()
    wait_for(lambda: unanswered(sandbox, "/organizations"))
    wait_for(lambda: total(sandbox, "/organizations") > before)
    return child


def hold_reply_of_member(sandbox: SandboxControl, start: Callable[[], Child]) -> Child:
    """Clerk has the organization and one member more, and has not answered for the member."""
    sandbox.fault(POST_MEMBER, timeoutSeconds=20)
    child = start()
    wait_for(lambda: unanswered(sandbox, "/memberships"))
    return child


def hold_record_of_reply(sandbox: SandboxControl, start: Callable[[], Child]) -> Child:
    """Clerk has answered; the answer is on its way into the attempt's row, which is locked."""
    sandbox.fault(POST, timeoutSeconds=1.5)
    child = start()
    wait_for(lambda: unanswered(sandbox, "/organizations"))
    with transaction.atomic():
        sent = CreationAttempt.objects.filter(state="sent", answer__isnull=True).order_by("-sent_at")
        assert sent.select_for_update().first() is not None
        wait_for(is_anybody_waiting_for_a_row)
        assert not unanswered(sandbox, "/organizations")
        child.kill()
        child.wait()
    return child


def hold_link(sandbox: SandboxControl, start: Callable[[], Child]) -> Child:
    """Clerk has answered every request; the transaction that links the tenant waits for its lock."""
    with writers_locked_out():
        child = start()
        wait_for(lambda: count_waiting("advisory") > 0)
        child.kill()
        child.wait()
    return child


@contextmanager
def writers_locked_out() -> Iterator[None]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, number) FROM generate_series(0, %s) AS number",
            [locks.ORGANIZATIONS, locks.LOCKS - 1],
        )
        yield


def is_anybody_waiting_for_a_row() -> bool:
    return count_waiting("transactionid") > 0


def count_waiting(kind: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE datname = current_database() AND NOT granted AND locktype = %s",
            [kind],
        )
        return int(cursor.fetchone()[0])


HOLDS: tuple[Hold, ...] = (
    hold_reply_of_organization,
    hold_record_of_reply,
    hold_reply_of_member,
    hold_link,
)


@pytest.mark.parametrize(
    "old_tenants",
    [pytest.param(OLD_TENANTS, marks=pytest.mark.slow), pytest.param(2000, marks=pytest.mark.manual)],
    indirect=True,
)
def test_migration_killed_twenty_times_makes_one_organization_per_tenant(
    sandbox: SandboxControl, start: Callable[[], Child], old_tenants: list[Tenant]
) -> None:
    for hold in islice(cycle(HOLDS), KILLS):
        sandbox.clear_requests()
        child = hold(sandbox, start)
        child.kill()
        assert child.wait() == -9
        sandbox.clear_faults()
    assert total(sandbox, "/organizations") > Tenant.objects.exclude(clerk_org_id=None).count()

    last = start()
    output, _ = last.communicate(timeout=300)

    assert last.returncode == 0, output
    assert json.loads(output.splitlines()[-1])["state"] == "completed"
    assert_one_each(sandbox, old_tenants)


def assert_one_each(sandbox: SandboxControl, tenants: list[Tenant]) -> None:
    organizations = all_organizations(sandbox)
    assert len(organizations) == len(tenants)
    assert total(sandbox, "/organization_memberships") == len(OLD_MEMBERS) * len(tenants)
    assert {tenant.pk for tenant in Tenant.objects.all()} == {tenant.pk for tenant in tenants}
    linked = {tenant.pk: tenant.clerk_org_id for tenant in Tenant.objects.all()}
    marks = {org["private_metadata"]["django_clerk_tenants"]["tenant"]: org["id"] for org in organizations}
    assert linked == marks
    assert Membership.objects.filter(clerk_membership_id__isnull=False).count() == (
        len(OLD_MEMBERS) * len(tenants)
    )


def all_organizations(sandbox: SandboxControl) -> list[dict[str, Any]]:
    return [
        organization
        for offset in range(0, max(1, total(sandbox, "/organizations")), 500)
        for organization in sandbox.api("GET", "/organizations", limit=500, offset=offset)["data"]
    ]


@pytest.mark.slow
def test_migration_that_was_killed_is_recorded_as_interrupted_by_the_next_and_not_while_it_lives(
    sandbox: SandboxControl, start: Callable[[], Child], legacy: Callable[..., Tenant]
) -> None:
    legacy("Held", {str(sandbox.user()["id"]): "owner"})
    child = hold_reply_of_organization(sandbox, start)
    first = SyncRun.objects.get()
    other = legacy("Other", {str(sandbox.user()["id"]): "owner"})

    call_command("migrate_tenants_to_clerk", "--tenant", str(other.pk))
    first.refresh_from_db()
    assert (SyncRun.objects.count(), first.state, first.error) == (2, "running", "")

    child.kill()
    child.wait()
    expire_lease(first)
    call_command("migrate_tenants_to_clerk", "--tenant", str(other.pk), "--enqueue")
    first.refresh_from_db()
    assert (first.state, first.error) == ("interrupted", DIED)
    assert first.finished_at is not None
    assert SyncRun.objects.filter(state="completed").count() == 2


@pytest.mark.slow
def test_migration_interrupted_finishes_what_is_in_flight_and_resumes_when_run_again(
    sandbox: SandboxControl, start: Callable[[], Child], old_tenants: list[Tenant]
) -> None:
    sandbox.settings(latencyMs=100)
    child = start()
    wait_for(lambda: Tenant.objects.exclude(clerk_org_id=None).count() >= 2)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)

    assert child.returncode == 1
    assert json.loads(output.splitlines()[-1])["state"] == "interrupted"
    linked = Tenant.objects.exclude(clerk_org_id=None).count()
    assert 2 <= linked < OLD_TENANTS
    assert total(sandbox, "/organizations") == linked
    assert not CreationAttempt.objects.exclude(state="succeeded").exists()

    sandbox.settings(latencyMs=0)
    again = start()
    again.communicate(timeout=300)
    assert again.returncode == 0
    assert_one_each(sandbox, old_tenants)


@pytest.mark.slow
def test_two_operators_at_once_make_one_organization_per_tenant(
    sandbox: SandboxControl, start: Callable[[], Child], old_tenants: list[Tenant]
) -> None:
    sandbox.settings(latencyMs=20)
    children = [start(), start()]
    for child in children:
        child.communicate(timeout=300)

    assert [child.returncode for child in children] == [0, 0]
    assert_one_each(sandbox, old_tenants)
