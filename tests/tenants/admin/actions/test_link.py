"""The page that links a legacy tenant: search, preview and confirmation, against the local Clerk."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from django.test import Client

from tenants.models import Membership, Tenant
from tenants.services import sync_clerk_org_to_db
from tests.sandbox import SandboxControl
from tests.tenants.admin import hostile
from tests.tenants.admin.actions.conftest import mirrored, recorded_as_deleted
from tests.tenants.admin.conftest import CHANGELIST, Staff, do_url, shown_messages

pytestmark = pytest.mark.usefixtures("own_instance")


@pytest.fixture
def old_sons(legacy: Callable[..., Tenant]) -> Tenant:
    return legacy("Old & Sons", {"user_local": "owner"}, slug="old-sons")


def page(staff: Staff, tenant: Tenant, **query: str) -> str:
    response = staff.get(f"{do_url('link', tenant)}?{urlencode(query)}")
    assert response.status_code == 200
    return str(response.content.decode())


def refusal(staff: Staff, tenant: Tenant, clerk_org_id: str) -> str:
    """Confirm the link, and return the page; check that it keeps the id and that nothing is written."""
    response = staff.do("link", tenant, clerk_org_id=clerk_org_id)
    assert response.status_code == 200
    shown = str(response.content.decode())
    assert f'name="clerk_org_id" value="{clerk_org_id}"' in shown
    assert shown_messages(response) == []
    assert Tenant.objects.get(pk=tenant.pk).clerk_org_id is None
    return shown


def test_link_page_asks_for_a_search_and_calls_no_clerk(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    shown = page(operator, old_sons)
    for text in ("Old &amp; Sons", "old-sons", "Search in Clerk", "Cancel"):
        assert text in shown
    assert sandbox.requests() == []


@pytest.mark.parametrize("by", ["name", "slug", "id"])
def test_link_search_finds_by_name_slug_and_id(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant, by: str
) -> None:
    organization = sandbox.organization("Old & Sons Ltd", sandbox.user()["id"], slug="sons-ltd")
    other = mirrored(sandbox, "Another")
    text = {"name": "sons l", "slug": "sons-l", "id": organization["id"]}[by]

    shown = page(operator, old_sons, q=text)

    assert "1 organization found" in shown
    assert "Old &amp; Sons Ltd" in shown
    assert f"?organization={organization['id']}" in shown
    assert str(other.clerk_org_id) not in shown
    assert f'value="{text}"' in shown


def test_link_search_names_the_tenant_of_a_mirrored_organization(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    holder = mirrored(sandbox, "Acme")
    assert f"tenant {holder.pk}</a>" in page(operator, old_sons, q="acme")
    assert "No organization in Clerk has" in page(operator, old_sons, q="nothing")


def test_link_search_of_many_says_that_it_shows_the_newest(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    for number in range(21):
        sandbox.organization(f"Acme {number}")
    shown = page(operator, old_sons, q="acme")
    assert "21 organizations found" in shown
    assert "These are the newest 20." in shown
    assert ">Acme 0<" not in shown


def test_link_preview_shows_both_sides_and_the_absorbed_row(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    mirror = mirrored(sandbox, "Old & Sons Ltd", members=3)
    users = list(mirror.memberships.values_list("clerk_user_id", flat=True))
    sandbox.clear_requests()

    shown = page(operator, old_sons, organization=str(mirror.clerk_org_id))

    for text in (
        "Old &amp; Sons Ltd",
        "1 member here",
        "user_local",
        "3 members in Clerk",
        *users,
        "Differs",
    ):
        assert text in shown
    assert f"/tenant/{mirror.pk}/change/" in shown
    assert "is absorbed" in shown
    assert {request["method"] for request in sandbox.requests()} == {"GET"}
    assert Tenant.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_link_confirmed_absorbs_the_mirror_and_unlink_undoes_it(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    user = sandbox.user()["id"]
    organization = sandbox.organization("Old & Sons Ltd", user)
    sync_clerk_org_to_db(organization["id"])

    response = operator.do("link", old_sons, clerk_org_id=f" {organization['id']} ")

    assert (response.status_code, response["Location"]) == (302, f"{CHANGELIST}{old_sons.pk}/change/")
    linked = Tenant.objects.get()
    assert (linked.pk, linked.name) == (old_sons.pk, "Old & Sons Ltd")
    assert shown_messages(response) == [
        (
            "success",
            f"Old & Sons Ltd (tenant {linked.pk}) is linked to {organization['id']}. Unlink undoes this.",
        )
    ]
    assert set(Membership.objects.values_list("clerk_user_id", flat=True)) == {user, "user_local"}
    operator.do("unlink", linked)
    assert Tenant.objects.get(pk=linked.pk).clerk_org_id is None


@pytest.mark.parametrize("clerk_org_id", ["org_1/../x", "user_1", "org_<script>"])
def test_link_malformed_id_calls_no_clerk(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant, clerk_org_id: str
) -> None:
    confirmed = operator.do("link", old_sons, clerk_org_id=clerk_org_id).content.decode()
    for shown in (confirmed, page(operator, old_sons, organization=clerk_org_id)):
        assert "is not an organization id" in shown
        assert "org_<script>" not in shown
    assert sandbox.requests() == []


def test_link_unknown_organization_is_refused(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    reason = "Clerk has no organization org_unknown."
    assert reason in refusal(operator, old_sons, "org_unknown")
    assert reason in page(operator, old_sons, organization="org_unknown")


def test_link_organization_with_local_data_is_refused_by_preview_and_confirmation(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    mirror = mirrored(sandbox)
    Tenant.objects.filter(pk=mirror.pk).update(status="suspended")

    shown = page(operator, old_sons, organization=str(mirror.clerk_org_id))

    assert "its status is suspended" in shown
    assert "is absorbed" not in shown
    assert 'name="clerk_org_id"' not in shown
    assert "its status is suspended" in refusal(operator, old_sons, str(mirror.clerk_org_id))
    assert Tenant.objects.count() == 2


def test_link_deleted_organization_is_refused_by_preview_and_confirmation(
    sandbox: SandboxControl, operator: Staff, old_sons: Tenant
) -> None:
    deleted = recorded_as_deleted(sandbox)
    for shown in (
        page(operator, old_sons, organization=str(deleted.clerk_org_id)),
        refusal(operator, old_sons, str(deleted.clerk_org_id)),
    ):
        assert "was deleted in Clerk" in shown


@pytest.mark.parametrize("method", ["get", "post"])
def test_link_page_linked_tenant_is_refused(
    sandbox: SandboxControl, operator: Staff, linked: Callable[..., Tenant], method: str
) -> None:
    tenant = linked("org_1", "Acme")

    response = getattr(operator.http, method)(do_url("link", tenant), {"clerk_org_id": "org_2"})

    assert response["Location"] == f"{CHANGELIST}{tenant.pk}/change/"
    [(level, text)] = shown_messages(response)
    assert (level, "is already linked to org_1. Nothing was changed." in text) == ("error", True)
    assert sandbox.requests() == []


def test_link_page_unknown_tenant_is_not_found(operator: Staff) -> None:
    assert operator.get(f"{CHANGELIST}4711/do/link/").status_code == 404


def test_link_page_anonymous_user_is_sent_to_the_login(old_sons: Tenant) -> None:
    response = Client().post(do_url("link", old_sons), {"clerk_org_id": "org_1"})
    assert response["Location"].startswith("/admin/login/")


def test_link_selected_rows_are_linked_one_at_a_time(
    operator: Staff, old_sons: Tenant, legacy: Callable[..., Tenant], linked: Callable[..., Tenant]
) -> None:
    acme = linked("org_1")
    one = operator.get(operator.select("link", old_sons, acme)["Location"])
    assert one["Location"] == do_url("link", old_sons)

    other = legacy("Other")
    several = operator.get(operator.select("link", old_sons, other, acme)["Location"]).content.decode()
    assert do_url("link", old_sons) in several
    assert do_url("link", other) in several
    assert "1 of the selected tenants is already linked" in several
    none = operator.get(operator.select("link", acme)["Location"]).content.decode()
    assert "All selected tenants are already linked" in none


@pytest.mark.parametrize("text", hostile.TOGETHER, ids=["markup and length", "right to left"])
def test_link_hostile_texts_are_shown_harmless(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant], text: str
) -> None:
    tenant = legacy(text, {"user_local": text[:200]}, slug=text)
    organization = sandbox.organization("Acme", sandbox.user()["id"])["id"]
    sandbox.patch_record(organization, name=text, slug=None, public_metadata={text[:99]: text})
    for query in ({"q": text}, {"q": organization}, {"organization": organization}, {"organization": text}):
        hostile.assert_harmless(page(operator, tenant, **query), text)
