"""The changes of `tenants.services`: what they write here and in Clerk, their history and their signals."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import models
from django.db.models import F
from django.dispatch import Signal

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured, ClerkRejected
from tenants import services, signals
from tenants.exceptions import (
    AlreadyLinked,
    OrganizationDeleted,
    OrganizationExists,
    TenantInactive,
    TenantInUse,
    UnknownOrganization,
    UnknownTenants,
)
from tenants.mirror import deletions
from tenants.models import Membership, Tenant, TenantHistory, Tombstone
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller
from tests.tenants.temporary_models import table_of

pytestmark = pytest.mark.django_db

STAFF = User(username="grace")


@pytest.fixture
def tenant(sandbox: SandboxControl, ada: Caller) -> Tenant:
    """A tenant with one member whose organization lives in Clerk; its history is empty."""
    tenant = Tenant.objects.get(pk=ada.create("Acme", slug="acme").json()["id"])
    TenantHistory.objects.all().delete()
    return tenant


def entries() -> list[tuple[str, str, str, Any]]:
    """Return (source, actor, action, changes) of the tenants' own changes, oldest first."""
    rows = TenantHistory.objects.filter(clerk_user_id="").order_by("id")
    return list(rows.values_list("source", "actor", "action", "changes"))


def _receiver(name: str, received: list[tuple[str, dict[str, Any]]]) -> Callable[..., None]:
    def receive(sender: None, signal: Any, **arguments: Any) -> None:
        received.append((name, arguments))

    return receive


def test_status_changes_are_reversible_and_recorded(legacy: Callable[..., Tenant]) -> None:
    tenant = legacy()

    services.suspend(tenant, reason="unpaid", acting_user=STAFF)
    services.suspend(tenant, reason="unpaid since May", acting_user=STAFF)
    services.suspend(tenant, reason="unpaid since May", acting_user=STAFF)
    assert (tenant.status, tenant.suspension_reason) == ("suspended", "unpaid since May")
    services.reactivate(tenant, acting_user=STAFF)
    assert (tenant.status, tenant.suspension_reason) == ("active", "")
    services.deactivate(tenant, acting_user="user_1")
    services.reactivate(tenant, acting_user=None)

    assert [entry[:3] for entry in entries()] == [
        ("staff", "grace", "suspended"),
        ("staff", "grace", "suspended"),
        ("staff", "grace", "reactivated"),
        ("api", "user_1", "deactivated"),
        ("command", "", "reactivated"),
    ]
    assert entries()[1][3] == {"suspension_reason": ["unpaid", "unpaid since May"]}


@pytest.mark.django_db(transaction=True)
def test_changes_send_one_signal_each_after_commit(ada: Caller) -> None:
    old, new = (Tenant.objects.get(pk=ada.create(name).json()["id"]) for name in ("Old", "New"))
    received: list[tuple[str, dict[str, Any]]] = []
    named = {name: signal for name, signal in vars(signals).items() if isinstance(signal, Signal)}
    receivers = {name: _receiver(name, received) for name in named}
    for name, signal in named.items():
        signal.connect(receivers[name])
    try:
        services.suspend(old, reason="unpaid", acting_user=STAFF)
        services.reactivate(old, acting_user=STAFF)
        services.rename(new, name="Newer", acting_user=STAFF)
        ada.request("PATCH", f"/tenants/{old.pk}/set-primary")
        ada.request("PATCH", f"/tenants/{old.pk}/set-primary")
        services.delete(old, acting_user=STAFF, delete_clerk_organization=True)
    finally:
        for name, signal in named.items():
            signal.disconnect(receivers[name])

    assert [name for name, _ in received] == [
        "tenant_status_changed",
        "tenant_status_changed",
        "tenant_updated",
        "primary_changed",
        "tenant_deactivated",
        "membership_changed",
        "tenant_deleted",
    ]
    status = {"status": ("active", "suspended"), "suspension_reason": ("", "unpaid")}
    assert received[0][1] == {"tenant_id": old.pk, "clerk_org_id": old.clerk_org_id, "changes": status}
    assert received[2][1]["changes"] == {"name": ("New", "Newer")}


@pytest.mark.parametrize("change", ["suspend", "reactivate"])
def test_status_of_a_tenant_deleted_in_clerk_cannot_change_until_it_is_unlinked(
    tenant: Tenant, change: str
) -> None:
    def apply() -> None:
        if change == "suspend":
            services.suspend(tenant, reason="unpaid", acting_user=STAFF)
        else:
            services.reactivate(tenant, acting_user=STAFF)

    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=Tombstone.Source.EVENT)
    with pytest.raises(OrganizationDeleted, match="unlink it first"):
        apply()
    services.deactivate(tenant, acting_user=STAFF)
    services.unlink(tenant, acting_user=STAFF)
    apply()

    assert [entry[:3] for entry in entries()][:2] == [
        ("sync", "", "deleted_in_clerk"),
        ("staff", "grace", "unlinked"),
    ]
    assert tenant.status == ("suspended" if change == "suspend" else "active")


def test_unlink_of_a_tenant_with_another_link_since_it_was_read_changes_nothing(tenant: Tenant) -> None:
    Tenant.objects.update(clerk_org_id="org_other")

    with pytest.raises(AlreadyLinked, match="Nothing was unlinked"):
        services.unlink(tenant, acting_user=STAFF)

    assert Tenant.objects.get().clerk_org_id == "org_other"


def test_rename_changes_clerk_and_then_the_mirror(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant
) -> None:
    services.rename(tenant, name="Acme Ltd", slug="acme-ltd", acting_user=ada.id)

    organization = sandbox.api("GET", f"/organizations/{tenant.clerk_org_id}")
    assert (organization["name"], organization["slug"]) == ("Acme Ltd", "acme-ltd")
    assert (tenant.name, tenant.slug, tenant.clerk_updated_at) == (
        "Acme Ltd",
        "acme-ltd",
        organization["updated_at"],
    )
    changes = {"name": ["Acme", "Acme Ltd"], "slug": ["acme", "acme-ltd"]}
    assert entries() == [("api", ada.id, "renamed", changes)]
    [call] = sandbox.requests("PATCH")
    assert set(call["body"]) == {"name", "slug"}


def test_rename_name_only_leaves_the_slug_alone(sandbox: SandboxControl, tenant: Tenant) -> None:
    services.rename(tenant, name="Acme Ltd", acting_user=STAFF)

    assert (tenant.name, tenant.slug) == ("Acme Ltd", "acme")
    assert [call["body"] for call in sandbox.requests("PATCH")] == [{"name": "Acme Ltd"}]


def test_rename_reply_lost_is_repaired_by_the_next_sync(sandbox: SandboxControl, tenant: Tenant) -> None:
    sandbox.fault("PATCH /v1/organizations/*", dropAfterCommit=True)

    with pytest.raises(ClerkError) as failure:
        services.rename(tenant, name="Acme Ltd", acting_user=STAFF)
    assert failure.value.outcome_unknown
    assert len(sandbox.requests("PATCH")) == 1
    tenant.refresh_from_db()
    assert tenant.name == "Acme"

    services.sync_organization(str(tenant.clerk_org_id))
    tenant.refresh_from_db()
    assert tenant.name == "Acme Ltd"


def test_rename_to_a_taken_slug_is_refused_and_changes_nothing(
    sandbox: SandboxControl, tenant: Tenant
) -> None:
    sandbox.organization("Another company", slug="taken")

    with pytest.raises(ClerkRejected):
        services.rename(tenant, name="Acme Ltd", slug="taken", acting_user=STAFF)

    tenant.refresh_from_db()
    assert (tenant.name, tenant.slug, entries()) == ("Acme", "acme", [])


def test_rename_organization_gone_from_clerk_is_recorded_as_deleted(
    sandbox: SandboxControl, tenant: Tenant
) -> None:
    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")

    with pytest.raises(OrganizationDeleted, match="was not renamed"):
        services.rename(tenant, name="Acme Ltd", acting_user=STAFF)

    tenant.refresh_from_db()
    assert (tenant.name, tenant.deleted_at is not None) == ("Acme", True)


@pytest.mark.parametrize("status", ["suspended", "deactivated"])
def test_rename_inactive_tenant_is_refused(
    sandbox: SandboxControl, tenant: Tenant, legacy: Callable[..., Tenant], status: str
) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(status=status)
    tenant.refresh_from_db()

    for inactive in (tenant, legacy(status=status)):
        with pytest.raises(TenantInactive):
            services.rename(inactive, name="Acme Ltd", acting_user=STAFF)

    assert sandbox.requests("PATCH") == []


def test_rename_legacy_tenant_stays_here(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> None:
    tenant = legacy("Old & Sons", slug="old")

    services.rename(tenant, name="Old & Daughters", acting_user="user_1")

    assert (tenant.name, tenant.slug, sandbox.requests()) == ("Old & Daughters", "old", [])
    assert entries() == [("api", "user_1", "renamed", {"name": ["Old & Sons", "Old & Daughters"]})]


def test_rename_legacy_tenant_linked_meanwhile_is_refused(legacy: Callable[..., Tenant]) -> None:
    tenant = legacy()
    Tenant.objects.filter(pk=tenant.pk).update(clerk_org_id="org_1")

    with pytest.raises(AlreadyLinked, match="Try again"):
        services.rename(tenant, name="New", acting_user=STAFF)


def test_delete_needs_the_organization_to_be_gone_from_clerk(sandbox: SandboxControl, tenant: Tenant) -> None:
    with pytest.raises(OrganizationExists, match="Nothing was deleted"):
        services.delete(tenant, acting_user=STAFF)
    assert (Tenant.objects.count(), entries()) == (1, [])

    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")
    services.delete(tenant, acting_user=STAFF)

    assert (Tenant.objects.count(), Membership.objects.count()) == (0, 0)
    assert Tombstone.objects.values_list("clerk_id", "source").get() == (tenant.clerk_org_id, "request")
    assert [entry[:3] for entry in entries()][-1] == ("staff", "grace", "deleted")


@pytest.mark.parametrize("is_lost", [False, True])
def test_delete_with_the_organization_deletes_in_clerk_first(
    sandbox: SandboxControl, ada: Caller, tenant: Tenant, is_lost: bool
) -> None:
    if is_lost:
        sandbox.fault("DELETE /v1/organizations/*", dropAfterCommit=True)
        with pytest.raises(ClerkError) as failure:
            services.delete(tenant, acting_user=STAFF, delete_clerk_organization=True)
        assert failure.value.outcome_unknown
        assert Tenant.objects.exists()

    services.delete(tenant, acting_user=STAFF, delete_clerk_organization=True)

    assert sandbox.api("GET", "/organizations")["total_count"] == 0
    assert not Tenant.objects.exists()
    assert ada.tenants().json() == []


def test_delete_of_a_tenant_that_is_unlinked_meanwhile_says_that_the_organization_is_gone(
    sandbox: SandboxControl, tenant: Tenant
) -> None:
    clerk_org_id = tenant.clerk_org_id
    services.unlink(Tenant.objects.get(pk=tenant.pk), acting_user=STAFF)

    with pytest.raises(AlreadyLinked, match=f"{clerk_org_id} was deleted in Clerk. Tenant .* was not"):
        services.delete(tenant, acting_user=STAFF, delete_clerk_organization=True)

    assert sandbox.api("GET", "/organizations")["total_count"] == 0
    assert Tenant.objects.filter(pk=tenant.pk, clerk_org_id=None).exists()


def test_delete_with_the_key_of_another_instance_deletes_nothing(
    sandbox: SandboxControl, tenant: Tenant, settings: Any
) -> None:
    settings.CLERK_INSTANCE_ID = "ins_another"

    for flag in (False, True):
        with pytest.raises(ClerkMisconfigured):
            services.delete(tenant, acting_user=STAFF, delete_clerk_organization=flag)

    assert sandbox.requests("DELETE") == []
    assert Tenant.objects.exists()


def test_delete_legacy_tenant_asks_nothing(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> None:
    tenant, copy = legacy("Old", {"user_1": "owner"}), Tenant.objects.get()

    services.delete(tenant, acting_user=STAFF)
    with pytest.raises(UnknownTenants):
        services.delete(copy, acting_user=STAFF)

    assert (Tenant.objects.exists(), Membership.objects.exists(), sandbox.requests()) == (False, False, [])


@pytest.fixture
def contracts() -> Iterator[type[models.Model]]:
    """A model of another app that protects tenants from deletion."""

    class Contract(models.Model):
        tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")

        class Meta:
            app_label = "tenants"

        def __str__(self) -> str:
            return "a contract"

    with table_of(Contract):
        yield Contract


@pytest.mark.django_db(transaction=True)
def test_delete_tenant_that_another_row_protects_leaves_clerk_alone(
    sandbox: SandboxControl, ada: Caller, contracts: Any
) -> None:
    tenant = Tenant.objects.get(pk=ada.create("Acme").json()["id"])
    contracts.objects.create(tenant=tenant)

    with pytest.raises(TenantInUse, match="contracts refer to it"):
        services.delete(tenant, acting_user=STAFF, delete_clerk_organization=True)

    assert sandbox.requests("DELETE") == []
    assert Tenant.objects.filter(status="active").exists()


def test_restore_is_attributed_to_the_acting_user(tenant: Tenant) -> None:
    with pytest.raises(UnknownOrganization, match="not recorded as deleted"):
        services.restore(tenant, acting_user=STAFF)
    deletions.record_organization_deleted(str(tenant.clerk_org_id), source=Tombstone.Source.EVENT)
    Tombstone.objects.update(created_at=F("created_at") - timedelta(seconds=61))
    tenant.refresh_from_db()

    restored = services.restore(tenant, acting_user=STAFF)

    assert (restored.status, restored.deleted_at) == ("active", None)
    assert entries()[-1][:3] == ("staff", "grace", "restored")


def test_restore_organization_gone_from_clerk_changes_nothing(
    sandbox: SandboxControl, tenant: Tenant
) -> None:
    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")
    services.sync_organization(str(tenant.clerk_org_id))
    tenant.refresh_from_db()

    with pytest.raises(UnknownOrganization, match="was not changed"):
        services.restore(tenant, acting_user=STAFF)
