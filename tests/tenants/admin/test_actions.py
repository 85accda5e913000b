"""The admin actions on selected tenants, against the local Clerk."""

from collections.abc import Callable

import pytest

from clerk_integration.exceptions import ClerkMisconfigured, ClerkRateLimited, ClerkRejected, ClerkUnavailable
from clerk_integration.models import LearnedInstance
from tenants.admin.actions.batch import OUT_OF_TIME, Outcome, run_batch
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
        "Clerk is unavailable. Select the remaining tenants again later: nothing is done twice.",
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

    assert [level for level, _ in messages] == ["success", "error", "error"]
    assert messages[0][1] == "1 tenant created in Clerk."
    assert "already linked to org_1" in messages[1][1]
    assert "owner" in messages[2][1]


def test_sync_action_legacy_tenant_is_reported_and_the_others_are_synced(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant], linked: Callable[..., Tenant]
) -> None:
    old = legacy("A")
    acme = linked(sandbox.organization("Acme")["id"], "B")

    assert shown_messages(operator.run("sync_from_clerk", old, acme)) == [
        ("success", "1 tenant synced from Clerk."),
        ("error", f"A (tenant {old.pk}): This tenant is not linked to an organization in Clerk."),
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
    assert {request["path"] for request in sandbox.requests()} == {"/v1/organizations/org_0"}
    assert not Tenant.objects.exclude(last_synced_at=None).exists()
    assert operator.get().status_code == 200


def test_message_with_html_in_a_name_is_escaped(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    operator.run("sync_from_clerk", legacy("<script>alert(1)</script>"))
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


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ClerkUnavailable("down"), "Clerk is unavailable."),
        (ClerkRateLimited("slow down", retry_after=9), "Clerk is unavailable."),
        (ClerkMisconfigured("no key"), "The connection to Clerk is misconfigured."),
    ],
)
def test_run_batch_error_that_every_tenant_would_meet_stops(failure: Exception, reason: str) -> None:
    def step(tenant: Tenant) -> None:
        if tenant.name == "b":
            raise failure

    outcome = run_batch([Tenant(pk=n, name=name) for n, name in enumerate("abcd")], step)

    assert outcome == Outcome(done=1, failures=[f"b (tenant 1): {failure}"], not_tried=2, stop_reason=reason)


def test_run_batch_error_of_one_tenant_continues() -> None:
    def step(tenant: Tenant) -> None:
        if tenant.name == "b":
            raise ClerkRejected("slug taken", code="form_identifier_exists", status_code=422)

    outcome = run_batch([Tenant(pk=n, name=name) for n, name in enumerate("abcd")], step)

    assert outcome == Outcome(done=3, failures=["b (tenant 1): slug taken"])


def test_run_batch_out_of_time_starts_no_tenant() -> None:
    outcome = run_batch([Tenant(pk=1), Tenant(pk=2)], str, seconds=0)
    assert outcome == Outcome(not_tried=2, stop_reason=OUT_OF_TIME)


def test_run_batch_unexpected_error_of_one_tenant_continues(caplog: pytest.LogCaptureFixture) -> None:
    def step(tenant: Tenant) -> None:
        if tenant.name == "b":
            raise ZeroDivisionError("secret")

    outcome = run_batch([Tenant(pk=n, name=name) for n, name in enumerate("abc")], step)

    failure = "b (tenant 1): unexpected error ZeroDivisionError; the log has the details."
    assert outcome == Outcome(done=2, failures=[failure])
    assert caplog.records[0].exc_info is not None


def test_run_batch_the_same_unexpected_error_in_a_row_stops() -> None:
    def step(tenant: Tenant) -> None:
        raise ZeroDivisionError

    outcome = run_batch([Tenant(pk=n, name=str(n)) for n in range(9)], step)

    assert (outcome.done, len(outcome.failures), outcome.not_tried) == (0, 5, 4)
    assert "in a row" in outcome.stop_reason
