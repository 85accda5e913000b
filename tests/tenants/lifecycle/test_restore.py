"""Restore: an organization that is recorded as deleted and lives in Clerk after all."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import F

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import ClerkMisconfigured
from clerk_integration.webhooks.registry import ClerkEvent, handle
from tenants import signals
from tenants.exceptions import OrganizationDeleted
from tenants.mirror import deletions, leases, writer
from tenants.models import Membership, Tenant, Tombstone
from tenants.services import TenantService, sync_organization
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db

EVENT, NOT_FOUND = Tombstone.Source.EVENT, Tombstone.Source.NOT_FOUND


def age_tombstones(seconds: float) -> None:
    """Let the tombstones be older by so much."""
    Tombstone.objects.update(created_at=F("created_at") - timedelta(seconds=seconds))


@pytest.fixture
def tenant(sandbox: SandboxControl, ada: Caller) -> Tenant:
    """A tenant with one member whose organization lives in Clerk."""
    return Tenant.objects.get(pk=ada.create("Acme").json()["id"])


def state(tenant: Tenant) -> tuple[Any, ...]:
    tenant.refresh_from_db()
    members = Membership.objects.filter(tenant=tenant, is_active=True).count()
    return tenant.status, tenant.deleted_at is not None, members, Tombstone.objects.count()


DELETED = ("deactivated", True, 0, 1)


@pytest.mark.parametrize("status", ["active", "suspended", "deactivated"])
@pytest.mark.parametrize("source", [EVENT, NOT_FOUND])
def test_sync_organization_recorded_as_deleted_restores_status_and_members(
    tenant: Tenant, status: str, source: Tombstone.Source
) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(status=status)
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=source)
    assert state(tenant) == DELETED
    assert Tombstone.objects.get().source == source
    age_tombstones(61)

    assert sync_organization(str(tenant.clerk_org_id)) == tenant

    assert state(tenant) == (status, False, 1, 0)


@pytest.mark.parametrize("events", [1, 3])
def test_sync_organization_recorded_as_deleted_restores_members_who_are_not_in_clerk(
    tenant: Tenant, events: int
) -> None:
    for number in range(3):
        Membership.objects.create(tenant=tenant, clerk_user_id=f"user_local_{number}", role="member")
    Membership.objects.filter(clerk_user_id="user_local_2").update(is_active=False)
    for _ in range(events):
        deletions.record_organization_deleted(str(tenant.clerk_org_id), source=NOT_FOUND)
    assert state(tenant) == DELETED
    age_tombstones(61)

    sync_organization(str(tenant.clerk_org_id))

    local = Membership.objects.filter(tenant=tenant, clerk_membership_id=None, is_active=True)
    assert sorted(local.values_list("clerk_user_id", flat=True)) == ["user_local_0", "user_local_1"]
    assert state(tenant) == ("active", False, 3, 0)


def test_sync_organization_tombstone_younger_than_60_s_changes_nothing(tenant: Tenant) -> None:
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=EVENT)
    age_tombstones(58)

    with pytest.raises(OrganizationDeleted, match="Clerk still has it"):
        sync_organization(str(tenant.clerk_org_id))

    assert state(tenant) == DELETED


def test_sync_organization_deleted_again_meanwhile_waits_again(tenant: Tenant) -> None:
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=NOT_FOUND)
    age_tombstones(3600)
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=EVENT)

    with pytest.raises(OrganizationDeleted):
        sync_organization(str(tenant.clerk_org_id))

    assert Tombstone.objects.values_list("source", "status_before").get() == ("event", "active")


def test_sync_organization_with_the_key_of_another_instance_restores_nothing(
    tenant: Tenant, settings: Any
) -> None:
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=EVENT)
    age_tombstones(61)
    settings.CLERK_INSTANCE_ID = "ins_another"

    with pytest.raises(ClerkMisconfigured):
        sync_organization(str(tenant.clerk_org_id))

    assert state(tenant) == DELETED


def test_sync_organization_still_missing_from_clerk_stays_deleted(
    sandbox: SandboxControl, tenant: Tenant
) -> None:
    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=EVENT)
    age_tombstones(61)

    assert sync_organization(str(tenant.clerk_org_id)) is None

    assert state(tenant) == DELETED


def test_events_and_listings_of_a_deleted_organization_restore_nothing(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    membership = Membership.objects.get()
    record = ClerkOrganization(id=str(tenant.clerk_org_id), name="Acme", updated_at=2**40)
    member = ClerkMembership(str(membership.clerk_membership_id), ada.id, "org:admin", record, 1, 2**40)
    deletions.record_organization_deleted(record.id, source=EVENT)
    age_tombstones(61)
    data = {"id": record.id, "name": "Acme"}

    handle([ClerkEvent.from_json({"type": "organization.updated", "data": data})])
    writer.write_organization_listing(record, [member], listed_at=writer.clock(), complete=True)
    leases.expire(ada.id)
    ada.tenants()

    assert state(tenant) == DELETED


def test_sync_from_clerk_organization_whose_tenant_was_deleted_makes_a_new_tenant(tenant: Tenant) -> None:
    clerk_org_id = str(tenant.clerk_org_id)
    deletions.record_organization_deleted(clerk_org_id, source=EVENT)
    tenant.delete()
    age_tombstones(61)

    call_command("sync_from_clerk", organization=[clerk_org_id])

    new = Tenant.objects.get(clerk_org_id=clerk_org_id)
    assert (new.status, new.memberships.filter(is_active=True).count()) == ("active", 1)


def test_restore_sends_a_signal_and_moves_updated_at(
    tenant: Tenant, django_capture_on_commit_callbacks: Any
) -> None:
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=EVENT)
    age_tombstones(61)
    tenant.refresh_from_db()
    deleted_at, before = tenant.deleted_at, tenant.updated_at
    received: list[Any] = []

    def receive(sender: None, tenant_id: int, changes: Any, **_: Any) -> None:
        received.append((tenant_id, changes))

    signals.tenant_restored.connect(receive)
    with django_capture_on_commit_callbacks(execute=True):
        TenantService.refresh_from_clerk(tenant)
    signals.tenant_restored.disconnect(receive)

    changes = {"status": ("deactivated", "active"), "deleted_at": (deleted_at, None)}
    assert received == [(tenant.pk, changes)]
    assert tenant.updated_at > before
