"""Steps for many selected tenants, carried out by workers: outcomes, cancel, resume, and who may."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.signals import pre_delete

from clerk_integration.models import LearnedInstance
from tenants import tasks
from tenants.batches import control
from tenants.batches.jobs import SLICE
from tenants.batches.run import start
from tenants.batches.steps import STEPS
from tenants.models import SyncRun, Tenant, TenantHistory
from tenants.runs.failures import FailedAlike
from tenants.runs.slices import end_abandoned_runs, withdraw
from tests.sandbox import SandboxControl
from tests.tenants.batches.conftest import counts, outcomes, waiting_jobs, work

pytestmark = pytest.mark.django_db(transaction=True)

Many = Callable[..., list[Tenant]]


@pytest.mark.parametrize("number", [0, 1, SLICE, 2 * SLICE + 1])
def test_batch_accounts_for_every_selected_tenant(boss: User, many: Many, number: int) -> None:
    tenants = many(number)
    spared = many(1)[0]
    run = start(
        STEPS["suspend"],
        Tenant.objects.exclude(pk=spared.pk),
        acting_user=boss,
        options={"reason": "unpaid"},
    )
    work()

    assert counts(run) == (number, 0, 0)
    assert (run.state, run.error, run.started_by) == ("completed", "", "boss")
    assert run.cursor["tenants"] == number
    assert outcomes(run) == {tenant.pk: "done" for tenant in tenants}
    suspended = Tenant.objects.filter(status="suspended", suspension_reason="unpaid")
    assert suspended.count() == number
    history = TenantHistory.objects.filter(tenant_id__in=[tenant.pk for tenant in tenants])
    assert set(history.exclude(action="created").values_list("source", "actor")) <= {("staff", "boss")}


def test_batch_one_bad_tenant_among_many_costs_itself_only(boss: User, many: Many) -> None:
    tenants = many(SLICE + 5)
    bad, other = tenants[3], tenants[SLICE + 1]
    Tenant.objects.filter(pk=other.pk).update(status="deactivated")
    run = start(STEPS["deactivate"], Tenant.objects.all(), acting_user=boss)
    Tenant.objects.filter(pk=tenants[7].pk).delete()

    work()
    assert counts(run) == (SLICE + 3, 2, 0)
    assert outcomes(run)[other.pk] == outcomes(run)[tenants[7].pk] == "not_applicable"

    run = start(STEPS["delete"], Tenant.objects.all(), acting_user=boss)
    pre_delete.connect(refuse_one(bad), sender=Tenant, weak=False, dispatch_uid="refuse")
    try:
        work()
    finally:
        pre_delete.disconnect(sender=Tenant, dispatch_uid="refuse")
    assert counts(run) == (SLICE + 3, 0, 1)
    assert run.state == "failed"
    assert run.error.startswith("1 tenant failed; the others are done.")
    assert list(Tenant.objects.all()) == [bad]

    assert control.resume(run, acting_user=boss)
    assert counts(run) == (SLICE + 3, 0, 1)
    work()
    assert (counts(run), run.state) == ((SLICE + 4, 0, 0), "completed")


@pytest.mark.parametrize(("step", "left"), [("delete", 1), ("unlink", 1), ("suspend", 0)])
def test_batch_tenant_linked_after_the_start_keeps_its_organization(
    boss: User, many: Many, step: str, left: int
) -> None:
    """The tenant is unlinked and linked again, by hand, between the confirmation and the job."""
    relinked = many(3)[1]
    Tenant.objects.filter(pk=relinked.pk).update(clerk_org_id="org_1")
    run = start(STEPS[step], Tenant.objects.all(), acting_user=boss)
    Tenant.objects.filter(pk=relinked.pk).update(clerk_org_id=None)
    Tenant.objects.filter(pk=relinked.pk).update(clerk_org_id="org_2")

    work()

    assert Tenant.objects.get(pk=relinked.pk).clerk_org_id == "org_2"
    assert (outcomes(run)[relinked.pk] == "not_applicable") == bool(left)
    assert Tenant.objects.count() == (1 if step == "delete" else 3)


def test_batch_tenant_linked_and_deleted_after_the_start_is_reported_as_deleted(
    boss: User, many: Many
) -> None:
    [tenant] = many(1)
    run = start(STEPS["delete"], Tenant.objects.all(), acting_user=boss)
    Tenant.objects.update(clerk_org_id="org_1")
    Tenant.objects.all().delete()

    work()

    assert run.slices.get().outcomes[str(tenant.pk)]["reason"] == "deleted since the batch was started"


def refuse_one(bad: Tenant) -> Callable[..., None]:
    def refuse(instance: Tenant, **_: Any) -> None:
        if instance.pk == bad.pk:
            raise ZeroDivisionError

    return refuse


def test_cancel_stops_before_the_next_tenant_and_resume_takes_what_is_left(boss: User, many: Many) -> None:
    many(SLICE + 1)
    run = start(STEPS["delete"], Tenant.objects.all(), acting_user=boss)
    deleted: list[int] = []

    def cancel_at_the_third(instance: Tenant, **_: Any) -> None:
        deleted.append(instance.pk)
        if len(deleted) == 3:
            control.cancel(run, acting_user=boss)

    pre_delete.connect(cancel_at_the_third, sender=Tenant, weak=False, dispatch_uid="cancel")
    try:
        work()
    finally:
        pre_delete.disconnect(sender=Tenant, dispatch_uid="cancel")

    assert (counts(run), len(deleted)) == ((3, 0, 0), 3)
    assert (run.state, run.error) == ("interrupted", "Cancelled by boss.")
    assert waiting_jobs() == []
    assert not control.cancel(run, acting_user=boss)

    other = User.objects.create_superuser("other")
    assert control.resume(run, acting_user=other)
    assert not control.resume(run, acting_user=other)
    work()
    assert (counts(run), run.state, run.started_by) == ((SLICE + 1, 0, 0), "completed", "other")
    assert not control.can_resume(run)


def test_batch_repeated_job_does_no_tenant_twice(boss: User, many: Many) -> None:
    many(9)
    run = start(STEPS["suspend"], Tenant.objects.all(), acting_user=boss, options={"reason": "a"})
    work()
    Tenant.objects.update(suspension_reason="b")
    run.slices.update(closed_at=None)
    SyncRun.objects.update(state="running", holder="workers")
    [piece] = run.slices.all()

    tasks.batch_slice(run.pk, piece.part, piece.number)
    assert counts(run) == (9, 0, 0)
    assert set(Tenant.objects.values_list("suspension_reason", flat=True)) == {"b"}


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}, {"is_superuser": False}])
def test_batch_of_a_user_who_lost_the_permission_stops(
    boss: User, many: Many, change: dict[str, bool]
) -> None:
    many(3)
    run = start(STEPS["suspend"], Tenant.objects.all(), acting_user=boss)
    User.objects.filter(pk=boss.pk).update(**change)
    work()

    assert counts(run) == (0, 0, 0)
    assert run.state == "failed"
    assert run.error.startswith("boss may not do this any more.")
    assert not Tenant.objects.filter(status="suspended").exists()


def linked(sandbox: SandboxControl, number: int) -> None:
    for index in range(number):
        organization = sandbox.organization(f"New {index}")
        Tenant.objects.create(clerk_org_id=organization["id"], name=f"Old {index}")
    LearnedInstance.objects.get_or_create(instance_id=sandbox.description["instanceId"])


@pytest.fixture(autouse=True)
def fast_clerk(settings: Any) -> None:
    """Clerk that allows many requests, so that no test waits for its pace."""
    settings.CLERK_RATE_LIMIT = "10000"


def test_sync_batch_during_an_outage_is_tried_again_and_loses_no_tenant(
    sandbox: SandboxControl, boss: User
) -> None:
    linked(sandbox, 9)
    run = start(STEPS["sync"], Tenant.objects.all(), acting_user=boss)
    sandbox.fault("*", status=503, times=99)
    with pytest.raises(FailedAlike):
        work()
    assert counts(run) == (0, 0, 5)
    assert run.state == "running"

    sandbox.clear_faults()
    work()
    assert (counts(run), run.state) == ((9, 0, 0), "completed")
    assert Tenant.objects.filter(name__startswith="New").count() == 9


def test_sync_batch_with_a_wrong_key_stops_and_names_what_to_do(
    sandbox: SandboxControl, boss: User, settings: Any
) -> None:
    linked(sandbox, 9)
    run = start(STEPS["sync"], Tenant.objects.all(), acting_user=boss)
    settings.CLERK_SECRET_KEY = "sk_test_wrong"
    work()

    run.refresh_from_db()
    assert run.state == "failed"
    assert run.error.startswith("The connection to Clerk is misconfigured.")
    assert run.error.endswith("Resume the run to try the tenants that are left or failed.")


def test_batch_whose_jobs_are_lost_is_ended_and_can_be_resumed(boss: User, many: Many) -> None:
    many(3)
    run = start(STEPS["deactivate"], Tenant.objects.all(), acting_user=boss)
    withdraw(run)
    assert end_abandoned_runs() == 1
    run.refresh_from_db()
    assert run.state == "failed"

    assert control.resume(run, acting_user=boss)
    work()
    assert (counts(run), run.state) == ((3, 0, 0), "completed")


def test_create_batch_lists_the_organizations_of_clerk_once_for_each_job(
    sandbox: SandboxControl, boss: User, legacy: Callable[..., Tenant]
) -> None:
    for index in range(3):
        legacy(f"Tenant {index}", {sandbox.user()["id"]: "owner"})
    ownerless = legacy("Ownerless")
    owner = sandbox.user()["id"]
    run = start(STEPS["create_in_clerk"], Tenant.objects.all(), acting_user=boss, options={"owner": owner})
    sandbox.clear_requests()
    work()

    assert (counts(run), run.state) == ((4, 0, 0), "completed")
    assert len(sandbox.requests("GET", "/v1/organizations")) == 1
    ownerless.refresh_from_db()
    assert sandbox.api("GET", f"/organizations/{ownerless.clerk_org_id}")["created_by"] == owner
