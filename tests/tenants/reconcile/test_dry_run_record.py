"""The record of a dry run: its run, the outcome of each organization, and the tenants that differ."""

from threading import Event

import pytest

from clerk_integration.exceptions import ClerkUnavailable
from tenants.exceptions import SyncInterrupted
from tenants.models import SyncRun, Tenant
from tenants.monitoring import numbers
from tenants.monitoring.overview import work_numbers
from tenants.reconcile import Comparison, Difference, dry_run, run_full_sync
from tenants.services import sync_organization
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)


def ignore(difference: Difference) -> None:
    """Report nothing."""


@pytest.fixture
def drifted(sandbox: SandboxControl) -> list[Tenant]:
    """Four tenants: renamed in Clerk, with a new member there, missing there, and equal."""
    sandbox.reset(organizations=4, users=4, membershipsPerOrganization=1)
    run_full_sync()
    tenants = list(Tenant.objects.order_by("id"))
    sandbox.api("PATCH", f"/organizations/{tenants[0].clerk_org_id}", {"name": "Renamed"})
    sandbox.membership(str(tenants[1].clerk_org_id), sandbox.user()["id"], "org:member")
    sandbox.api("DELETE", f"/organizations/{tenants[2].clerk_org_id}")
    sandbox.organization("New")
    return tenants


def drifted_ids() -> set[int]:
    return set(Tenant.objects.drifted().values_list("pk", flat=True))


def test_dry_run_records_the_outcome_of_each_organization(drifted: list[Tenant]) -> None:
    reported: list[Difference] = []

    run, comparison = dry_run(reported.append)

    assert comparison == Comparison(unchanged=5, missing_from_mirror=2, missing_from_clerk=2, changed=1)
    assert (run.kind, run.state) == (SyncRun.Kind.DRY_RUN, SyncRun.State.COMPLETED)
    assert (run.created, run.updated, run.unchanged, run.retired, run.failed) == (2, 1, 5, 2, 0)
    [piece] = run.slices.all()
    assert set(piece.outcomes) == {difference.clerk_org_id for difference in reported}
    [renamed] = [one for one in reported if one.what == "changed"]
    assert piece.outcomes[drifted[0].clerk_org_id] == {"problem": str(renamed)}
    assert drifted_ids() == {tenant.pk for tenant in drifted[:3]}


def test_dry_run_many_differences_of_one_organization_are_counted(sandbox: SandboxControl) -> None:
    organization = sandbox.organization("Acme")["id"]
    for _ in range(5):
        sandbox.membership(organization, sandbox.user()["id"], "org:member")

    run, _ = dry_run(ignore)

    problem = run.slices.get().outcomes[organization]["problem"]
    assert problem.count("missing from the mirror") == 5
    assert problem.endswith("; and 1 more difference")


def test_drifted_tenant_that_was_synced_since_is_left_out(drifted: list[Tenant]) -> None:
    dry_run(ignore)

    sync_organization(str(drifted[0].clerk_org_id))
    assert drifted_ids() == {drifted[1].pk, drifted[2].pk}

    run_full_sync(max_retire_percent=100)
    assert drifted_ids() == set()


def test_drifted_uses_the_last_dry_run_only(drifted: list[Tenant]) -> None:
    dry_run(ignore)
    sync_organization(str(drifted[0].clerk_org_id))
    dry_run(ignore)

    Tenant.objects.update(last_synced_at=None)

    assert drifted_ids() == {drifted[1].pk, drifted[2].pk}


def test_dry_run_without_memberships_replaces_no_number_of_a_whole_one(drifted: list[Tenant]) -> None:
    whole, _ = dry_run(ignore)

    dry_run(ignore, skip_memberships=True)

    last, drift = work_numbers().last_dry_run, numbers.drift()
    assert last is not None
    assert drift is not None
    assert (last.id, last.missing_from_mirror + last.differing + last.missing_from_clerk) == (whole.pk, 5)
    assert drift.total == 5
    assert drifted_ids() == {tenant.pk for tenant in drifted[:3]}


def test_dry_run_stopped_is_recorded_as_interrupted(drifted: list[Tenant]) -> None:
    stopping = Event()
    stopping.set()

    with pytest.raises(SyncInterrupted):
        dry_run(ignore, stopping=stopping)

    run = SyncRun.objects.get(kind=SyncRun.Kind.DRY_RUN)
    assert (run.state, run.lease_expires_at) == (SyncRun.State.INTERRUPTED, None)
    assert drifted_ids() == set()


def test_dry_run_failed_is_recorded_and_the_last_complete_one_counts(
    drifted: list[Tenant], sandbox: SandboxControl
) -> None:
    dry_run(ignore)
    sandbox.fault("GET /v1/organization_memberships", times=9, status=500)

    with pytest.raises(ClerkUnavailable):
        dry_run(ignore)

    run = SyncRun.objects.filter(kind=SyncRun.Kind.DRY_RUN).latest("id")
    assert run.state == SyncRun.State.FAILED
    assert run.error.startswith("ClerkUnavailable: ")
    assert len(drifted_ids()) == 3
