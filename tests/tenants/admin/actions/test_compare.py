"""The page that compares one tenant with Clerk."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from tenants.models import Membership, Tenant
from tests.sandbox import SandboxControl
from tests.tenants.admin import hostile
from tests.tenants.admin.actions.conftest import mirrored, recorded_as_deleted
from tests.tenants.admin.conftest import CHANGELIST, Staff, do_url, shown_messages

pytestmark = pytest.mark.usefixtures("own_instance")


def page(staff: Staff, tenant: Tenant, query: str = "") -> str:
    response = staff.get(f"{CHANGELIST}{tenant.pk}/compare/{query}")
    assert response.status_code == 200
    return str(response.content.decode())


def test_compare_page_marks_differences_and_take_clerks_side_writes_them(
    sandbox: SandboxControl, operator: Staff
) -> None:
    tenant = mirrored(sandbox, "Acme", members=3)
    organization = tenant.clerk_org_id
    members = tenant.memberships.order_by("role", "pk")  # The owner is the only org:admin.
    owner, changed, removed = members.values_list("clerk_user_id", flat=True)
    assert "No differences" in page(operator, tenant)
    sandbox.api("PATCH", f"/organizations/{organization}", {"name": "Acme Ltd"})
    sandbox.api("PATCH", f"/organizations/{organization}/memberships/{changed}", {"role": "org:admin"})
    sandbox.api("DELETE", f"/organizations/{organization}/memberships/{removed}")
    added = sandbox.user()["id"]
    sandbox.membership(str(organization), added)
    before = list(Membership.objects.order_by("pk").values())

    shown = page(operator, tenant)

    for text in ("4 differences", "Acme Ltd", "changes the role", "is added: missing here", "ends: missing"):
        assert text in shown
    assert shown.count('class="tenants-differs"') == 2 + 3  # name and time; the members
    assert list(Membership.objects.order_by("pk").values()) == before

    response = operator.do("sync", tenant)
    assert shown_messages(response)[0][0] == "success"
    assert "No differences" in page(operator, tenant)
    active = tenant.memberships.filter(is_active=True).values_list("clerk_user_id", flat=True)
    assert set(active) == {owner, changed, added}


def test_compare_page_values_newer_than_clerks_reply_are_no_difference(
    sandbox: SandboxControl, operator: Staff
) -> None:
    tenant = mirrored(sandbox)
    Tenant.objects.filter(pk=tenant.pk).update(
        name="Newer", clerk_updated_at=(tenant.clerk_updated_at or 0) + 9
    )
    assert "The values here are newer than Clerk's reply." in page(operator, tenant)


def test_compare_page_organization_that_clerk_lacks_says_what_a_sync_does(
    sandbox: SandboxControl, operator: Staff
) -> None:
    tenant = mirrored(sandbox)
    sandbox.api("DELETE", f"/organizations/{tenant.clerk_org_id}")
    assert "A sync records the tenant as deleted in Clerk" in page(operator, tenant)
    tenant.refresh_from_db()
    assert tenant.deleted_at is None


def test_compare_page_tombstone_of_an_organization_that_clerk_has_offers_restore(
    sandbox: SandboxControl, operator: Staff
) -> None:
    tenant = recorded_as_deleted(sandbox)
    shown = page(operator, tenant)
    assert "but Clerk has the organization" in shown
    assert do_url("restore", tenant) in shown


def test_compare_page_local_members_are_counted(sandbox: SandboxControl, operator: Staff) -> None:
    tenant = mirrored(sandbox)
    Membership.objects.create(tenant=tenant, clerk_user_id="user_local", role="owner")
    assert "1 local only, which a sync leaves alone" in " ".join(page(operator, tenant).split())


@pytest.mark.slow
def test_compare_page_many_members_shows_one_page(sandbox: SandboxControl, operator: Staff) -> None:
    sandbox.reset(organizations=1, users=501, membershipsPerOrganization=501)
    organization = sandbox.api("GET", "/organizations")["data"][0]["id"]
    tenant = Tenant.objects.create(clerk_org_id=organization, name="Large")
    Membership.objects.create(
        tenant=tenant,
        clerk_user_id="user_gone",
        clerk_membership_id="orgmem_gone",
        role="org:member",
        written_at=timezone.now() - timedelta(days=1),
    )
    sandbox.clear_requests()

    first, second = page(operator, tenant), page(operator, tenant, "?page=2")

    assert len(sandbox.requests()) == 4
    assert "Page 1 of 2" in " ".join(first.split())
    assert "user_gone" not in first
    assert first.count("is added: missing here") == 500
    assert second.count("is added: missing here") == 1
    assert "No members on this page." in page(operator, tenant, "?page=999999")
    assert "Page 1 of 2" in " ".join(page(operator, tenant, "?page=x").split())


def test_compare_page_legacy_tenant_is_sent_back(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy("Old")
    response = operator.get(f"{CHANGELIST}{tenant.pk}/compare/")
    assert response["Location"] == f"{CHANGELIST}{tenant.pk}/change/"
    assert sandbox.requests() == []


@pytest.mark.parametrize("text", hostile.TOGETHER, ids=["markup and length", "right to left"])
def test_compare_hostile_texts_are_shown_harmless(
    sandbox: SandboxControl, operator: Staff, text: str
) -> None:
    tenant = mirrored(sandbox)
    sandbox.patch_record(str(tenant.clerk_org_id), name=text, public_metadata={text[:99]: text})
    membership = tenant.memberships.get()
    Membership.objects.filter(pk=membership.pk).update(role=text[:200])
    hostile.assert_harmless(page(operator, tenant), text)
