"""TenantService and sync_clerk_org_to_db, against the local Clerk."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import models

from clerk_integration.exceptions import ClerkMisconfigured, ClerkUnavailable, InvalidClerkId
from clerk_integration.models import LearnedInstance
from tenants import services
from tenants.exceptions import (
    AbsorbRefused,
    AlreadyLinked,
    NotAMember,
    OrganizationDeleted,
    UnknownOrganization,
    UnknownTenants,
)
from tenants.mirror import deletions, leases
from tenants.models import Membership, Tenant, Tombstone, UserSync
from tenants.services import SyncState, TenantService, sync_clerk_org_to_db, sync_organization
from tenants.sql import query
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller
from tests.tenants.temporary_models import table_of

pytestmark = pytest.mark.django_db

UNKNOWN = "org_2unknown"


def test_create_tenant_warns_and_stays_local(sandbox: SandboxControl) -> None:
    with pytest.warns(DeprecationWarning, match="create_tenant_from_clerk"):
        tenant = TenantService.create_tenant({"name": "Old", "slug": "old"})

    assert (tenant.clerk_org_id, tenant.name, tenant.slug, tenant.status) == (None, "Old", "old", "active")
    assert sandbox.requests() == []


def test_create_tenant_with_a_taken_or_deleted_organization_is_refused(sandbox: SandboxControl) -> None:
    with pytest.warns(DeprecationWarning, match="create_tenant_from_clerk"):
        TenantService.create_tenant({"name": "Old"}, clerk_org_id="org_1")
    with pytest.warns(DeprecationWarning, match="create_tenant_from_clerk"), pytest.raises(AlreadyLinked):
        TenantService.create_tenant({"name": "Other"}, clerk_org_id="org_1")
    deletions.record_organization_deleted("org_2", source=Tombstone.Source.EVENT)
    with (
        pytest.warns(DeprecationWarning, match="create_tenant_from_clerk"),
        pytest.raises(OrganizationDeleted),
    ):
        TenantService.create_tenant({"name": "Other"}, clerk_org_id="org_2")

    assert Tenant.objects.count() == 1


def test_create_tenant_from_clerk_adopting_needs_a_membership_in_clerk(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    organization = sandbox.organization("Acme", created_by=ada.id)

    with pytest.raises(NotAMember):
        TenantService.create_tenant_from_clerk(
            clerk_user_id=grace.id, tenant_data={"name": "Mine now"}, clerk_org_id=organization["id"]
        )
    assert not Tenant.objects.exists()

    tenant = TenantService.create_tenant_from_clerk(
        clerk_user_id=ada.id, tenant_data={}, clerk_org_id=organization["id"]
    )
    assert (tenant.clerk_org_id, tenant.name) == (organization["id"], "Acme")
    assert Membership.objects.values_list("clerk_user_id", "role", "is_primary").get() == (
        ada.id,
        "org:admin",
        True,
    )
    assert sandbox.requests("POST") == []


def test_create_tenant_with_a_malformed_id_is_refused() -> None:
    with pytest.warns(DeprecationWarning, match="in Clerk"), pytest.raises(InvalidClerkId):
        TenantService.create_tenant({"name": "Old"}, "../users")

    assert not Tenant.objects.exists()


def test_create_tenant_from_clerk_adopting_an_unknown_organization_is_refused(
    sandbox: SandboxControl, ada: Caller
) -> None:
    with pytest.raises(UnknownOrganization):
        TenantService.create_tenant_from_clerk(clerk_user_id=ada.id, tenant_data={}, clerk_org_id=UNKNOWN)


def test_get_or_sync_fetches_once_and_then_reads_the_row(sandbox: SandboxControl) -> None:
    organization = sandbox.organization("Acme")

    first = TenantService.get_or_sync_from_clerk(organization["id"])
    second = TenantService.get_or_sync_from_clerk(organization["id"])

    assert first is not None
    assert first == second
    assert len(sandbox.requests()) == 1


def test_get_or_sync_unknown_organization_is_none(sandbox: SandboxControl) -> None:
    assert TenantService.get_or_sync_from_clerk(UNKNOWN) is None


def test_get_or_sync_while_clerk_fails_raises(sandbox: SandboxControl) -> None:
    sandbox.fault("GET /v1/organizations/*", times=9, status=503)

    with pytest.raises(ClerkUnavailable):
        TenantService.get_or_sync_from_clerk(UNKNOWN)
    assert not Tombstone.objects.exists()


def test_sync_clerk_org_to_db_takes_the_data_given_or_fetches(sandbox: SandboxControl) -> None:
    organization = sandbox.organization("Acme")

    given = sync_clerk_org_to_db(organization["id"], {**organization, "name": "Given", "slug": None})
    assert given is not None
    assert (given.name, given.slug, sandbox.requests()) == ("Given", None, [])

    fetched = sync_clerk_org_to_db(organization["id"])
    assert fetched is not None
    assert (fetched.pk, fetched.name) == (given.pk, "Acme")


def test_sync_clerk_org_to_db_data_of_another_organization_is_refused() -> None:
    with pytest.raises(ValueError, match="org_b"):
        sync_clerk_org_to_db("org_a", {"id": "org_b", "name": "B"})
    assert not Tenant.objects.exists()


def test_refresh_mirrors_the_organization_and_all_its_members(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    tenant = Tenant.objects.get(pk=ada.create("Acme").json()["id"])
    sandbox.api("PATCH", f"/organizations/{tenant.clerk_org_id}", {"name": "Acme Ltd"})
    sandbox.membership(str(tenant.clerk_org_id), grace.id)

    assert TenantService.refresh_from_clerk(tenant).name == "Acme Ltd"
    assert Membership.objects.filter(tenant=tenant, is_active=True).count() == 2

    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}/memberships/{grace.id}")
    TenantService.refresh_from_clerk(tenant)
    assert Membership.objects.get(clerk_user_id=grace.id).is_active is False


def test_refresh_of_a_deleted_organization_makes_a_tombstone(sandbox: SandboxControl, ada: Caller) -> None:
    tenant = Tenant.objects.get(pk=ada.create("Acme").json()["id"])
    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")

    TenantService.refresh_from_clerk(tenant)

    assert (tenant.status, tenant.deleted_at is not None) == ("deactivated", True)
    assert not Membership.objects.filter(is_active=True).exists()
    assert Tombstone.objects.filter(kind="organization", clerk_id=tenant.clerk_org_id).exists()


def test_refresh_of_a_tenant_that_was_deleted_is_refused(sandbox: SandboxControl, ada: Caller) -> None:
    tenant = Tenant.objects.get(pk=ada.create("Acme").json()["id"])
    Tenant.objects.all().delete()

    with pytest.raises(UnknownTenants, match=f"There is no tenant {tenant.pk}"):
        TenantService.refresh_from_clerk(tenant)


def test_refresh_with_the_key_of_another_instance_deletes_nothing(
    sandbox: SandboxControl, ada: Caller, settings: Any
) -> None:
    tenant = Tenant.objects.get(pk=ada.create("Acme").json()["id"])
    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")
    settings.CLERK_INSTANCE_ID = "ins_another"

    with pytest.raises(ClerkMisconfigured):
        TenantService.refresh_from_clerk(tenant)

    tenant.refresh_from_db()
    assert tenant.is_active
    assert not Tombstone.objects.exists()


def test_refresh_of_a_legacy_tenant_is_refused(
    sandbox: SandboxControl, legacy: Callable[..., Tenant]
) -> None:
    with pytest.raises(UnknownOrganization):
        TenantService.refresh_from_clerk(legacy())


def test_user_sync_clerk_fails_is_stale_and_raises_nothing(sandbox: SandboxControl, ada: Caller) -> None:
    sandbox.fault("GET /v1/users/*", times=9, status=500)

    assert TenantService.sync_user_tenants_from_clerk(ada.id) == SyncState.STALE

    sandbox.clear_faults()
    leases.expire(ada.id)  # Otherwise lists wait for some seconds before they ask Clerk again.
    assert TenantService.sync_user_tenants_from_clerk(ada.id) == SyncState.SYNCED
    assert TenantService.sync_user_tenants_from_clerk(ada.id) == SyncState.FRESH


def test_user_sync_one_unreadable_record_keeps_the_rest_and_ends_nothing(
    sandbox: SandboxControl, ada: Caller
) -> None:
    kept = sandbox.organization("Kept", created_by=ada.id)
    odd = sandbox.organization("Odd", created_by=ada.id)
    TenantService.sync_user_tenants_from_clerk(ada.id)
    sandbox.patch_record(odd["id"], remove=("id",))
    sandbox.patch_record(kept["id"], slug=None, public_metadata=None)
    UserSync.objects.all().delete()

    assert TenantService.sync_user_tenants_from_clerk(ada.id) == SyncState.SYNCED
    assert Membership.objects.filter(is_active=True).count() == 2
    assert Tenant.objects.get(clerk_org_id=kept["id"]).slug is None


@pytest.mark.parametrize("count", [1, 3, 9])
def test_syncs_one_unreadable_record_among_others_end_the_memberships_that_clerk_lacks(
    sandbox: SandboxControl, ada: Caller, count: int
) -> None:
    odd, left, *_ = [sandbox.organization(f"Organization {number}", ada.id) for number in range(count + 1)]
    owner, gone = (sandbox.user()["id"] for _ in range(2))
    for organization, user in ((left, owner), (odd, gone)):
        sandbox.membership(organization["id"], user, "org:admin")
    for organization in (odd, left):
        sync_organization(organization["id"])
    [of_ada] = sandbox.api("GET", f"/organizations/{odd['id']}/memberships", user_id=ada.id)["data"]
    sandbox.patch_record(of_ada["id"], remove=("role",))
    sandbox.api("DELETE", f"/organizations/{left['id']}/memberships/{ada.id}")
    sandbox.api("DELETE", f"/organizations/{odd['id']}/memberships/{gone}")

    assert TenantService.sync_user_tenants_from_clerk(ada.id) == SyncState.SYNCED
    sync_organization(odd["id"])

    ended = Membership.objects.filter(is_active=False).values_list("tenant__clerk_org_id", "clerk_user_id")
    assert set(ended) == {(left["id"], ada.id), (odd["id"], gone)}


@pytest.mark.parametrize(
    "odd", [{"role": "r" * 253}, {"role": "r\x00"}, {"public_user_data": {"user_id": "u" * 256}}]
)
def test_user_sync_one_oversized_membership_keeps_the_rest(
    sandbox: SandboxControl, ada: Caller, odd: dict[str, Any]
) -> None:
    sandbox.organization("Kept", created_by=ada.id)
    organization = sandbox.organization("Odd", created_by=ada.id)
    [membership] = sandbox.api("GET", f"/organizations/{organization['id']}/memberships")["data"]
    sandbox.patch_record(membership["id"], **odd)

    assert TenantService.sync_user_tenants_from_clerk(ada.id) == SyncState.SYNCED
    assert [tenant.name for tenant in Tenant.objects.all()] == ["Kept"]


def test_link_gives_a_legacy_tenant_its_organization_and_members(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    organization = sandbox.organization("Acme", created_by=ada.id, slug="acme")
    tenant = legacy("Old", {ada.id: "owner", "user_gone": "member"})

    linked = TenantService.link_to_clerk_org(tenant, organization["id"], acting_user=None)

    assert (linked.pk, linked.clerk_org_id, linked.name) == (tenant.pk, organization["id"], "Acme")
    rows = Membership.objects.order_by("id").values_list("clerk_user_id", "role", "is_active")
    assert list(rows) == [(ada.id, "org:admin", True), ("user_gone", "member", True)]


def test_link_writes_no_row_of_a_member_whom_clerk_does_not_list(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    organization = sandbox.organization("Acme", created_by=ada.id)
    tenant = legacy(members={ada.id: "owner", "user_gone": "member", "user_left": "member"})
    unlisted = "SELECT ctid::text FROM memberships WHERE clerk_user_id IN ('user_gone', 'user_left')"
    before = query(unlisted)

    TenantService.link_to_clerk_org(tenant, organization["id"], acting_user=None)

    assert query(unlisted) == before
    assert len(before) == 2


def test_link_absorbs_the_mirror_only_tenant_and_keeps_its_primaries(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    mirror = ada.create("Acme").json()
    tenant = legacy("Old", {ada.id: "owner"})

    linked = TenantService.link_to_clerk_org(tenant, mirror["clerkOrgId"], acting_user=None)

    assert list(Tenant.objects.values_list("pk", flat=True)) == [linked.pk] == [tenant.pk]
    membership = Membership.objects.get()
    assert (membership.role, membership.is_primary) == ("org:admin", True)
    assert [t["id"] for t in ada.tenants().json()] == [tenant.pk]


def test_link_mirror_with_local_data_is_refused(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    mirror = ada.create("Acme").json()
    Tenant.objects.filter(pk=mirror["id"]).update(status="suspended", suspension_reason="unpaid")
    tenant = legacy("Old")

    with pytest.raises(AbsorbRefused, match=r"suspended.*suspension reason"):
        TenantService.link_to_clerk_org(tenant, mirror["clerkOrgId"], acting_user=None)

    tenant.refresh_from_db()
    assert tenant.is_legacy
    assert Tenant.objects.count() == 2


def test_link_to_an_organization_that_a_person_linked_to_another_tenant_is_refused_until_it_is_unlinked(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    clerk_org_id = sandbox.organization("Acme", ada.id)["id"]
    right, wrong = legacy("Right", {ada.id: "owner"}), legacy("Wrong", {ada.id: "owner"})
    wrong = TenantService.link_to_clerk_org(wrong, clerk_org_id, acting_user=None)

    with pytest.raises(AbsorbRefused, match=r"it was linked on .*, and can be unlinked"):
        TenantService.link_to_clerk_org(right, clerk_org_id, acting_user=None)

    services.unlink(wrong, acting_user=None)
    TenantService.link_to_clerk_org(right, clerk_org_id, acting_user=None)
    assert set(Tenant.objects.values_list("pk", "clerk_org_id")) == {
        (right.pk, clerk_org_id),
        (wrong.pk, None),
    }


@pytest.fixture
def invoices() -> Iterator[type[models.Model]]:
    """A model of another app that refers to tenants, without a way back from them."""

    class Invoice(models.Model):
        tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", null=True)
        member = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="+", null=True)

        class Meta:
            app_label = "tenants"

        def __str__(self) -> str:
            return "an invoice"

    with table_of(Invoice):
        yield Invoice


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["tenant", "member"])
def test_link_mirror_that_another_app_refers_to_is_refused(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant], invoices: Any, what: str
) -> None:
    mirror = Tenant.objects.get(pk=ada.create("Acme").json()["id"])
    invoices.objects.create(**{what: mirror if what == "tenant" else mirror.memberships.get()})
    tenant = legacy("Old")

    with pytest.raises(AbsorbRefused, match="1 invoices refer to it"):
        TenantService.link_to_clerk_org(tenant, str(mirror.clerk_org_id), acting_user=None)

    assert invoices.objects.count() == 1


def test_link_linked_tenant_or_deleted_or_unknown_organization_is_refused(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    linked = Tenant.objects.get(pk=ada.create("Acme").json()["id"])
    other = sandbox.organization("Other")
    with pytest.raises(AlreadyLinked):
        TenantService.link_to_clerk_org(linked, other["id"], acting_user=None)

    tenant = legacy("Old")
    with pytest.raises(UnknownOrganization):
        TenantService.link_to_clerk_org(tenant, UNKNOWN, acting_user=None)

    deletions.record_organization_deleted(other["id"], source=Tombstone.Source.EVENT)
    with pytest.raises(OrganizationDeleted):
        TenantService.link_to_clerk_org(tenant, other["id"], acting_user=None)

    tenant.refresh_from_db()
    assert tenant.is_legacy


def test_sync_clerk_org_to_db_404_for_an_unseen_organization_records_nothing(
    sandbox: SandboxControl, ada: Caller
) -> None:
    organization = sandbox.organization("Acme", created_by=ada.id)
    sandbox.fault("GET /v1/organizations/*", status=404)

    assert TenantService.get_or_sync_from_clerk(organization["id"]) is None

    assert [tenant["name"] for tenant in ada.tenants().json()] == ["Acme"]


def test_sync_clerk_org_to_db_404_without_a_known_instance_records_nothing(
    sandbox: SandboxControl, ada: Caller, settings: Any
) -> None:
    tenant = Tenant.objects.get(pk=ada.create("Acme").json()["id"])
    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")
    settings.CLERK_INSTANCE_ID = ""
    LearnedInstance.objects.all().delete()

    with pytest.raises(ClerkMisconfigured, match="--adopt-instance"):
        TenantService.refresh_from_clerk(tenant)

    assert not Tombstone.objects.exists()
