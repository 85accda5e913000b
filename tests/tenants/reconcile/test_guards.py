"""What keeps a full sync from losing data: the instance, a sample of the mirror, a limit to retirements."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from pytest_django import Settings

from clerk_integration.exceptions import ClerkMisconfigured, ClerkUnavailable, WrongInstance
from clerk_integration.models import LearnedInstance
from tenants.exceptions import TooManyMissing
from tenants.mirror import deletions
from tenants.models import Membership, SyncRun, Tenant, Tombstone
from tenants.reconcile import Comparison, compare_with_clerk, run_full_sync, sync_one_organization
from tenants.services import SyncState, TenantService, sync_clerk_org_to_db
from tests.sandbox import SandboxControl
from tests.tenants.reconcile.test_full_sync import oldest_first

pytestmark = pytest.mark.django_db(transaction=True)

Json = dict[str, Any]
Switch = Callable[[str], Json]


@pytest.fixture(params=["key and instance", "key", "key, no instance"])
def switch(request: pytest.FixtureRequest, sandbox: SandboxControl, settings: Settings) -> Switch:
    """Serve an instance by name, "" being the first, and change settings to it: all, or only the key."""

    def use(name: str) -> Json:
        description = sandbox.use_instance(name)
        settings.CLERK_SECRET_KEY = description["secretKey"]
        settings.CLERK_JWT_KEY = description["jwtKey"]
        if request.param == "key and instance":
            settings.CLERK_INSTANCE_ID = description["instanceId"]
        elif request.param == "key, no instance":
            settings.CLERK_INSTANCE_ID = ""
        return description

    return use


def fill(sandbox: SandboxControl, organizations: int, *, name: str) -> list[str]:
    """Create organizations of one member each; return their ids."""
    return [
        sandbox.organization(f"{name} {number}", sandbox.user()["id"])["id"]
        for number in range(organizations)
    ]


def delete(sandbox: SandboxControl, ids: list[str]) -> None:
    for clerk_org_id in ids:
        sandbox.api("DELETE", f"/organizations/{clerk_org_id}")


def active() -> set[str | None]:
    return set(Tenant.objects.filter(status="active").values_list("clerk_org_id", flat=True))


def let_tombstones_age() -> None:
    """Let the minute pass in which a tombstone is not questioned."""
    Tombstone.objects.update(created_at=F("created_at") - timedelta(seconds=61))


def refused() -> None:
    with pytest.raises(WrongInstance, match="check_clerk --adopt-instance"):
        run_full_sync()


def test_full_sync_of_instances_a_b_b_a_ends_with_the_organizations_of_a(
    sandbox: SandboxControl, switch: Switch
) -> None:
    switch("")
    ours = set(fill(sandbox, 20, name="A"))
    run_full_sync()
    switch("b")
    theirs = fill(sandbox, 30, name="B")
    user = sandbox.user()["id"]
    sandbox.membership(theirs[0], user)

    for _ in range(2):
        refused()
    with pytest.raises(WrongInstance):
        compare_with_clerk(lambda difference: None)
    with pytest.raises(CommandError, match="--adopt-instance"):
        call_command("sync_from_clerk", "--organization", theirs[0], stdout=io.StringIO())
    with pytest.raises(ClerkMisconfigured):
        sync_clerk_org_to_db(theirs[0])
    assert TenantService.sync_user_tenants_from_clerk(user) == SyncState.STALE
    with pytest.raises(ClerkMisconfigured):
        TenantService.create_tenant_from_clerk(clerk_user_id=user, tenant_data={"name": "Acme"})
    assert len(sandbox.api("GET", "/organizations")["data"]) == 10

    switch("")
    run_full_sync()
    assert active() == ours
    assert Tenant.objects.count() == 20


def test_list_learns_the_instance_and_refuses_the_next_one(sandbox: SandboxControl, switch: Switch) -> None:
    switch("")
    [mirrored] = fill(sandbox, 1, name="A")
    [user] = [user["id"] for user in sandbox.api("GET", "/users")]
    assert TenantService.sync_user_tenants_from_clerk(user) == SyncState.SYNCED

    switch("B")
    fill(sandbox, 9, name="B")
    states = [
        TenantService.sync_user_tenants_from_clerk(other["id"]) for other in sandbox.api("GET", "/users")
    ]

    assert set(states) == {SyncState.STALE}
    assert active() == {mirrored}


@pytest.mark.parametrize("mirrored", [1, 9])
def test_full_sync_of_an_older_mirror_asks_for_a_sample_before_it_writes(
    sandbox: SandboxControl, switch: Switch, settings: Settings, mirrored: int
) -> None:
    """An older database does not store its instance, but its rows belong to one."""
    switch("")
    ours = set(fill(sandbox, mirrored, name="A"))
    run_full_sync()
    LearnedInstance.objects.all().delete()
    switch("b")
    if mirrored == 1:
        settings.CLERK_INSTANCE_ID = ""
    fill(sandbox, 3, name="B")

    refused()

    assert active() == ours
    assert not LearnedInstance.objects.exists()


@pytest.mark.parametrize("is_stored", [True, False], ids=["same instance stored", "nothing stored"])
def test_adopt_instance_all_organizations_gone_allows_the_next_sync(
    sandbox: SandboxControl, is_stored: bool
) -> None:
    gone = fill(sandbox, 9, name="A")
    run_full_sync()
    delete(sandbox, gone)
    fill(sandbox, 1, name="New")
    if not is_stored:
        LearnedInstance.objects.all().delete()
    with pytest.raises(WrongInstance, match="--adopt-instance"):
        run_full_sync()

    call_command("check_clerk", "--adopt-instance", stdout=io.StringIO())
    sync_one_organization(sandbox.api("GET", "/organizations")["data"][0]["id"])

    assert Tenant.objects.filter(name="New 0").exists()


def test_adopt_instance_of_another_key_allows_its_sync(
    sandbox: SandboxControl, switch: Switch, settings: Settings
) -> None:
    switch("")
    fill(sandbox, 9, name="A")
    run_full_sync()
    before = switch("b")["instanceId"]
    theirs = set(fill(sandbox, 3, name="B"))
    settings.CLERK_INSTANCE_ID = ""

    call_command("check_clerk", "--adopt-instance", stdout=io.StringIO())

    assert LearnedInstance.objects.get().instance_id == before
    with pytest.raises(TooManyMissing, match="9 of 9 organizations"):
        run_full_sync()
    assert active() >= theirs
    run_full_sync(max_retire_percent=100)
    assert active() == theirs


@pytest.mark.parametrize("mirrored", [1, 3, 9])
def test_full_sync_one_of_few_organizations_deleted_retires_it(
    sandbox: SandboxControl, mirrored: int
) -> None:
    first, *others = fill(sandbox, mirrored, name="A")
    run_full_sync()
    delete(sandbox, [first])

    assert run_full_sync().retired == 1

    assert active() == set(others)


def test_full_sync_all_organizations_gone_from_the_known_instance_changes_nothing(
    sandbox: SandboxControl,
) -> None:
    ours = set(fill(sandbox, 9, name="A"))
    run_full_sync()
    sandbox.reset()

    refused()

    assert active() == ours


def test_full_sync_too_many_missing_writes_the_rest_and_retires_nothing(sandbox: SandboxControl) -> None:
    ids = fill(sandbox, 20, name="A")
    run_full_sync()
    delete(sandbox, ids[:6])
    sandbox.api("PATCH", f"/organizations/{ids[6]}", {"name": "New name"})
    new = fill(sandbox, 1, name="New")
    user = sandbox.user()["id"]
    sandbox.membership(ids[7], user)

    for _ in range(2):
        with pytest.raises(TooManyMissing, match=r"6 of 20 organizations.*the rest of the sync was written"):
            run_full_sync()

    assert active() == {*ids, *new}
    assert Tenant.objects.get(clerk_org_id=ids[6]).name == "New name"
    assert Membership.objects.filter(clerk_user_id=user, is_active=True).exists()
    assert Membership.objects.filter(is_active=False).count() == 0
    latest = SyncRun.objects.latest("id")
    assert (latest.state, "6 of 20" in latest.error) == (SyncRun.State.FAILED, True)
    assert run_full_sync(max_retire_percent=30).retired >= 6
    assert active() == {*ids[6:], *new}


def test_full_sync_rows_of_a_refused_run_do_not_count_for_the_next_one(sandbox: SandboxControl) -> None:
    ids = fill(sandbox, 20, name="A")
    run_full_sync()
    delete(sandbox, ids[:6])
    fill(sandbox, 60, name="New")

    for _ in range(3):
        with pytest.raises(TooManyMissing, match="6 of 20 organizations"):
            run_full_sync()


def test_full_sync_too_many_missing_before_the_first_complete_sync_retires_nothing(
    sandbox: SandboxControl,
) -> None:
    ids = fill(sandbox, 20, name="A")
    run_full_sync()
    SyncRun.objects.update(state=SyncRun.State.INTERRUPTED, started_at=F("started_at") - timedelta(hours=2))
    delete(sandbox, ids[:6])

    for _ in range(2):
        with pytest.raises(TooManyMissing, match="6 of 20 organizations"):
            run_full_sync()

    assert active() == set(ids)
    assert run_full_sync(max_retire_percent=30).retired >= 6
    assert active() == set(ids[6:])


@pytest.mark.parametrize("tombstones", [1, 3, 9])
def test_full_sync_restores_organizations_that_clerk_has_after_all(
    sandbox: SandboxControl, tombstones: int
) -> None:
    ids = fill(sandbox, 10, name="A")
    run_full_sync()
    for clerk_org_id in ids[:tombstones]:
        deletions.record_organization_deleted(clerk_org_id, source=Tombstone.Source.NOT_FOUND)
    let_tombstones_age()
    found: list[str] = []

    comparison = compare_with_clerk(lambda difference: found.append(str(difference)))
    run = run_full_sync()

    assert comparison == Comparison(unchanged=20 - tombstones, recorded_as_deleted=tombstones)
    assert len([line for line in found if line.endswith("recorded as deleted")]) == tombstones
    assert (run.state, run.updated) == (SyncRun.State.COMPLETED, tombstones)
    assert active() == set(ids)
    assert Membership.objects.filter(is_active=True).count() == 10
    assert compare_with_clerk(lambda difference: None) == Comparison(unchanged=20)


def test_full_sync_does_not_question_a_tombstone_of_the_last_minute(sandbox: SandboxControl) -> None:
    ids = fill(sandbox, 3, name="A")
    run_full_sync()
    deletions.record_organization_deleted(ids[0], source=Tombstone.Source.EVENT)

    run_full_sync()

    assert active() == set(ids[1:])


def test_restore_tenants_that_clerk_has_restores_them(sandbox: SandboxControl) -> None:
    kept, gone = fill(sandbox, 2, name="A")
    run_full_sync()
    delete(sandbox, [gone])
    for clerk_org_id in (kept, gone):
        deletions.record_organization_deleted(clerk_org_id, source=Tombstone.Source.NOT_FOUND)
    let_tombstones_age()
    tenants = {str(tenant.clerk_org_id): tenant.pk for tenant in Tenant.objects.all()}
    out = io.StringIO()

    with pytest.raises(CommandError, match="1 not restored, 0 not tried"):
        call_command("restore_tenants", tenants[gone], tenants[kept], stdout=out)

    assert active() == {kept}
    assert f"tenant {tenants[gone]}: Clerk has no organization {gone}" in out.getvalue()


@pytest.mark.parametrize("failing", [1, 3, 9])
def test_restore_tenants_that_fail_alike_do_not_stop_the_others_before_five(
    sandbox: SandboxControl, failing: int
) -> None:
    ids = fill(sandbox, failing + 1, name="A")
    run_full_sync()
    for clerk_org_id in ids:
        deletions.record_organization_deleted(clerk_org_id, source=Tombstone.Source.NOT_FOUND)
    let_tombstones_age()
    tenants = {str(tenant.clerk_org_id): tenant.pk for tenant in Tenant.objects.all()}

    for clerk_org_id in ids[:-1]:
        sandbox.fault(
            f"GET /v1/organizations/{clerk_org_id}", status=403, body="<html>", contentType="text/html"
        )
    out = io.StringIO()

    with pytest.raises(CommandError):
        call_command(
            "restore_tenants", *(tenants[clerk_org_id] for clerk_org_id in ids), json=True, stdout=out
        )

    tried = min(failing, 5)
    summary = {"restored": int(failing < 5), "failed": tried, "not_tried": 0 if failing < 5 else failing - 4}
    assert json.loads(out.getvalue().splitlines()[-1]) == summary


@pytest.mark.parametrize("status", [403, 500])
def test_full_sync_one_organization_that_cannot_be_asked_for_is_left_and_named(
    sandbox: SandboxControl, status: int
) -> None:
    ids = fill(sandbox, 20, name="A")
    run_full_sync()
    delete(sandbox, ids[:3])
    sandbox.fault(f"GET /v1/organizations/{ids[1]}", times=3, status=status)

    run = run_full_sync()

    assert (run.state, run.retired, run.failed) == (SyncRun.State.COMPLETED, 2 + 1, 1)
    assert active() == {ids[1], *ids[3:]}


@pytest.mark.parametrize("count", [1, 3, 9])
def test_full_sync_ids_that_clerk_cannot_have_do_not_stop_it(sandbox: SandboxControl, count: int) -> None:
    [gone] = fill(sandbox, 1, name="A")
    run_full_sync()
    delete(sandbox, [gone])
    Tenant.objects.bulk_create(
        Tenant(name=str(number), clerk_org_id=f"a/{number}") for number in range(count)
    )

    run = run_full_sync(max_retire_percent=100)

    assert (run.state, run.retired, run.failed) == (SyncRun.State.COMPLETED, 1, count)


def test_full_sync_listed_organization_that_clerk_answers_404_for_is_not_restored(
    sandbox: SandboxControl,
) -> None:
    [clerk_org_id] = fill(sandbox, 1, name="A")
    run_full_sync()
    deletions.record_organization_deleted(clerk_org_id, source=Tombstone.Source.EVENT)
    let_tombstones_age()
    # Its list shows an organization for a while after it was deleted.
    sandbox.fault(f"GET /v1/organizations/{clerk_org_id}", status=404)

    run = run_full_sync()

    assert (run.state, run.updated, active()) == (SyncRun.State.COMPLETED, 0, set())


def test_full_sync_five_organizations_that_fail_alike_stop_it(sandbox: SandboxControl) -> None:
    ids = fill(sandbox, 60, name="A")
    run_full_sync()
    delete(sandbox, ids[:6])
    sandbox.fault("GET /v1/organizations/*", times=99, status=500)

    with pytest.raises(ClerkUnavailable):
        run_full_sync()

    assert active() == set(ids)
    assert SyncRun.objects.latest("id").state == SyncRun.State.INTERRUPTED


@pytest.mark.parametrize("position", [0, 4, 8])
def test_full_sync_one_record_that_the_database_refuses_is_left_and_named(
    sandbox: SandboxControl, position: int, caplog: pytest.LogCaptureFixture
) -> None:
    ids = oldest_first_of(sandbox, 9)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tenants ADD CONSTRAINT refuse CHECK (name <> 'odd')")
    try:
        sandbox.api("PATCH", f"/organizations/{ids[position]}", {"name": "odd"})
        run = run_full_sync(skip_memberships=True)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE tenants DROP CONSTRAINT refuse")

    assert active() == {*ids} - {ids[position]}
    assert (run.state, run.failed) == (SyncRun.State.COMPLETED, 1)
    assert ids[position] in caplog.text


def oldest_first_of(sandbox: SandboxControl, count: int) -> list[str]:
    sandbox.reset(organizations=count, users=1, membershipsPerOrganization=1)
    return oldest_first(sandbox)
