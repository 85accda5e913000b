"""The admin actions on selected tenants, against the local Clerk."""

from collections.abc import Callable

import pytest

from clerk_integration.models import LearnedInstance
from tenants.models import Tenant
from tests.sandbox import SandboxControl
from tests.tenants.admin.conftest import CHANGELIST, Staff, link_url, shown_messages


@pytest.mark.django_db(transaction=True)
def test_sync_action_fetches_the_selected_tenants_only(
    sandbox: SandboxControl, operator: Staff, linked: Callable[..., Tenant]
) -> None:
    user = sandbox.user()["id"]
    tenants = [linked(sandbox.organization(f"New {n}", user)["id"], f"Old {n}") for n in range(2)]
    spared = linked(sandbox.organization("New")["id"], "Old")

    response = operator.run("sync_from_clerk", *tenants)

    assert response.status_code == 302
    assert shown_messages(response) == [("success", "2 tenants synced from Clerk.")]
    assert [tenant.memberships.get().clerk_user_id for tenant in tenants] == [user, user]
    assert list(Tenant.objects.order_by("pk").values_list("name", flat=True)) == ["New 0", "New 1", "Old"]
    spared.refresh_from_db()
    assert spared.last_synced_at is None


@pytest.mark.django_db(transaction=True)
def test_create_action_legacy_tenant_gets_an_organization(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    owner = sandbox.user()["id"]
    tenant = legacy("Old & Sons", {owner: "owner"})

    response = operator.run("create_in_clerk", tenant)

    assert shown_messages(response) == [("success", "1 tenant created in Clerk.")]
    tenant.refresh_from_db()
    assert sandbox.api("GET", f"/organizations/{tenant.clerk_org_id}")["name"] == "Old & Sons"


def test_create_action_repeated_after_a_lost_reply_adopts_the_organization(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy("Old & Sons", {sandbox.user()["id"]: "owner"})
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)

    [failure, hint] = shown_messages(operator.run("create_in_clerk", tenant))
    assert failure[1].startswith(f"Old & Sons (tenant {tenant.pk}): ")
    assert hint == (
        "warning",
        "Clerk is unavailable. Select the remaining tenants again later.",
    )
    operator.get()  # Reads the messages.

    assert shown_messages(operator.run("create_in_clerk", tenant)) == [
        ("success", "1 tenant created in Clerk.")
    ]
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_create_action_linked_and_ownerless_tenants_are_reported(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant], linked: Callable[..., Tenant]
) -> None:
    LearnedInstance.objects.create(instance_id=sandbox.description["instanceId"])
    selected = [linked("org_1", "A"), legacy("B"), legacy("C", {sandbox.user()["id"]: "owner"})]

    messages = shown_messages(operator.run("create_in_clerk", *selected))

    assert [level for level, _ in messages] == ["success", "info", "error"]
    assert messages[0][1] == "1 tenant created in Clerk."
    assert messages[1][1] == "1 tenant skipped: already linked to Clerk."
    assert "owner" in messages[2][1]


def test_sync_action_legacy_tenant_is_reported_and_the_others_are_synced(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant], linked: Callable[..., Tenant]
) -> None:
    acme = linked(sandbox.organization("Acme")["id"], "B")

    assert shown_messages(operator.run("sync_from_clerk", legacy("A"), acme)) == [
        ("success", "1 tenant synced from Clerk."),
        ("info", "1 tenant skipped: not linked to Clerk."),
    ]


def test_sync_action_while_clerk_is_down_stops_at_the_first_tenant(
    sandbox: SandboxControl, operator: Staff, linked: Callable[..., Tenant]
) -> None:
    LearnedInstance.objects.create(instance_id=sandbox.description["instanceId"])
    tenants = [linked(f"org_{number}") for number in range(100)]
    sandbox.fault("*", status=503, times=9)

    messages = shown_messages(operator.run("sync_from_clerk", *tenants))

    assert [level for level, _ in messages] == ["error", "warning"]
    assert messages[1][1].startswith("Clerk is unavailable. 99 tenants not tried.")
    assert {request["path"] for request in sandbox.requests()} == {"/v1/organizations/org_99"}
    assert not Tenant.objects.exclude(last_synced_at=None).exists()
    assert operator.get().status_code == 200


def test_message_with_html_in_a_name_is_escaped(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    operator.run("create_in_clerk", legacy("<script>alert(1)</script>"))
    page = operator.get(f"{CHANGELIST}?q=nothing").content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; (tenant" in page
    assert "<script>alert(1)" not in page


@pytest.mark.parametrize("action", ["sync_from_clerk", "create_in_clerk", "link_to_organization"])
def test_action_of_a_viewer_does_nothing(
    sandbox: SandboxControl, viewer: Staff, legacy: Callable[..., Tenant], action: str
) -> None:
    tenant = legacy("Acme", {sandbox.user()["id"]: "owner"})

    response = viewer.run(action, tenant)

    assert (response.status_code, shown_messages(response)) == (200, [])
    assert sandbox.requests() == []
    tenant.refresh_from_db()
    assert (tenant.clerk_org_id, tenant.last_synced_at) == (None, None)


def test_link_action_one_tenant_redirects_to_the_link_page(
    operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy("Acme")
    response = operator.run("link_to_organization", tenant)
    assert (response.status_code, response["Location"]) == (302, link_url(tenant))


def test_link_action_several_tenants_is_refused(operator: Staff, legacy: Callable[..., Tenant]) -> None:
    response = operator.run("link_to_organization", legacy("A"), legacy("B"), legacy("C"))
    [(level, line)] = shown_messages(response)
    assert level == "error"
    assert line.startswith("Select exactly one tenant")
