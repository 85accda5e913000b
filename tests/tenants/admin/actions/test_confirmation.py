"""The page that asks before a step, and carries it out, against the local Clerk."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from tenants.models import Membership, SyncRun, Tenant, TenantHistory, Tombstone
from tenants.services import TenantService, unlink
from tests.sandbox import SandboxControl
from tests.tenants.admin import hostile
from tests.tenants.admin.actions.conftest import mirrored, recorded_as_deleted
from tests.tenants.admin.conftest import CHANGELIST, Staff, do_url, shown_messages


def sources(tenant: Tenant) -> list[tuple[str, str, str]]:
    """Return action, source and actor of the tenant's own changes, oldest first."""
    changes = TenantHistory.objects.filter(tenant_id=tenant.pk, clerk_user_id="").order_by("id")
    return list(changes.values_list("action", "source", "actor"))


@pytest.mark.django_db(transaction=True)
def test_sync_fetches_the_selected_tenants_only(
    sandbox: SandboxControl, operator: Staff, linked: Callable[..., Tenant]
) -> None:
    user = sandbox.user()["id"]
    tenants = [linked(sandbox.organization(f"New {n}", user)["id"], f"Old {n}") for n in range(2)]
    spared = linked(sandbox.organization("New")["id"], "Old")

    response = operator.run("sync", *tenants)

    assert (response.status_code, response["Location"]) == (302, CHANGELIST)
    assert shown_messages(response) == [("success", "2 tenants synced from Clerk.")]
    assert [tenant.memberships.get().clerk_user_id for tenant in tenants] == [user, user]
    assert list(Tenant.objects.order_by("pk").values_list("name", flat=True)) == ["New 0", "New 1", "Old"]
    spared.refresh_from_db()
    assert spared.last_synced_at is None
    assert sources(tenants[0])[-1] == ("renamed", "staff", "staff")


@pytest.mark.usefixtures("own_instance")
def test_each_step_on_the_page_of_a_tenant_changes_it_and_names_the_staff_user(
    sandbox: SandboxControl, administrator: Staff, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy("Acme", {sandbox.user()["id"]: "owner"})
    steps: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
        ("create_in_clerk", {}, "created in Clerk", {}),
        (
            "suspend",
            {"reason": "unpaid"},
            "suspended",
            {"status": "suspended", "suspension_reason": "unpaid"},
        ),
        ("reactivate", {}, "reactivated", {"status": "active", "suspension_reason": ""}),
        ("deactivate", {}, "deactivated", {"status": "deactivated"}),
        ("unlink", {}, "unlinked", {"clerk_org_id": None, "status": "deactivated"}),
    ]
    for action, entered, done, columns in steps:
        response = administrator.do(action, tenant, **entered)

        assert shown_messages(response)[-1] == ("success", f"Acme (tenant {tenant.pk}) was {done}.")
        assert response["Location"] == f"{CHANGELIST}{tenant.pk}/change/"
        assert Tenant.objects.filter(pk=tenant.pk, **columns).exists(), action
    assert [action for action, source, actor in sources(tenant) if (source, actor) == ("staff", "staff")] == [
        "linked",
        "renamed",
        "suspended",
        "reactivated",
        "deactivated",
        "unlinked",
    ]


@pytest.mark.usefixtures("own_instance")
def test_restore_brings_back_status_and_members_after_a_minute(
    sandbox: SandboxControl, operator: Staff
) -> None:
    tenant = recorded_as_deleted(sandbox)

    assert "was recorded as deleted" in operator.do("restore", tenant).content.decode()
    Tombstone.objects.update(created_at=timezone.now() - timedelta(seconds=61))
    restored = operator.do("restore", tenant)

    assert shown_messages(restored) == [("success", f"Acme (tenant {tenant.pk}) was restored.")]
    tenant.refresh_from_db()
    assert (tenant.deleted_at, tenant.status) == (None, "active")
    assert tenant.memberships.filter(is_active=True).count() == 1
    assert sources(tenant)[-1] == ("restored", "staff", "staff")


@pytest.mark.parametrize("in_clerk", [True, False])
@pytest.mark.usefixtures("own_instance")
def test_delete_needs_the_typed_name_and_the_organization_gone(
    sandbox: SandboxControl, administrator: Staff, in_clerk: bool
) -> None:
    tenant = mirrored(sandbox, "Acme  Ltd")
    organization = tenant.clerk_org_id
    choice = {"delete_clerk_organization": "on"} if in_clerk else {}

    page = administrator.get(do_url("delete", tenant)).content.decode()
    assert "permanently" in page
    wrong = administrator.do("delete", tenant, confirmation="acme", **choice)
    assert "different text. Nothing was deleted." in wrong.content.decode()
    assert sandbox.api("GET", f"/organizations/{organization}")["id"] == organization

    response = administrator.do("delete", tenant, confirmation=" Acme Ltd ", **choice)

    if in_clerk:
        assert shown_messages(response) == [("success", f"Acme  Ltd (tenant {tenant.pk}) was deleted.")]
        assert sources(tenant)[-1] == ("deleted", "staff", "staff")
        assert response["Location"] == CHANGELIST
        assert sandbox.api("GET", "/organizations")["total_count"] == 0
    else:
        assert "Clerk still has" in response.content.decode()
        assert sandbox.api("GET", f"/organizations/{organization}")["id"] == organization
    assert Tenant.objects.count() == (not in_clerk)


@pytest.mark.usefixtures("own_instance")
def test_delete_after_another_link_deletes_neither_organization(
    sandbox: SandboxControl, administrator: Staff
) -> None:
    tenant = mirrored(sandbox, "Acme")
    form = administrator.get(do_url("delete", tenant)).context["form"]
    unlink(tenant, acting_user=None)
    other = sandbox.organization("Other")["id"]
    TenantService.link_to_clerk_org(tenant, other, acting_user=None)

    page = administrator.do(
        "delete",
        tenant,
        organization=form["organization"].value(),
        confirmation=f"tenant {tenant.pk}",
        delete_clerk_organization="on",
    )

    assert f"The tenant is now linked to {other}" in page.content.decode()
    assert sandbox.api("GET", "/organizations")["total_count"] == 2


@pytest.mark.usefixtures("own_instance")
def test_create_shows_the_plan_first(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    owner = sandbox.user()["id"]
    tenants = [legacy("Old & Sons", {owner: "owner"}, slug="old-sons"), legacy("Ownerless")]

    url = operator.select("create_in_clerk", *tenants)["Location"]
    page = operator.get(url).content.decode()

    assert owner in page
    assert "it has no active owner or admin" in page
    assert "old-sons" in page
    assert sandbox.requests("POST") == []

    other = sandbox.user()["id"]
    assert shown_messages(operator.http.post(url, {"owner": other})) == [
        ("success", "2 tenants created in Clerk.")
    ]
    tenants[1].refresh_from_db()
    assert sandbox.api("GET", f"/organizations/{tenants[1].clerk_org_id}")["created_by"] == other


def test_create_with_a_malformed_owner_calls_no_clerk_and_keeps_it(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy("Acme")
    page = operator.do("create_in_clerk", tenant, owner="<b>user_1").content.decode()
    assert "is not a user id" in page
    assert 'value="&lt;b&gt;user_1"' in page
    assert sandbox.requests() == []


@pytest.mark.usefixtures("own_instance")
def test_selected_rows_that_do_not_apply_are_counted_in_one_line(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    rows = [legacy("A"), mirrored(sandbox, "B"), legacy("C")]
    line = "Left out: 2 tenants (2 not linked to Clerk)."

    page = operator.get(operator.select("sync", *rows)["Location"]).content.decode()
    assert "Sync 1 tenant from Clerk" in page
    assert line in page
    assert shown_messages(operator.run("sync", *rows)) == [
        ("success", "1 tenant synced from Clerk."),
        ("info", line),
    ]


def test_selection_without_a_row_that_applies_has_no_button(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    url = operator.select("sync", legacy("A"))["Location"]
    for response in (operator.get(url), operator.http.post(url)):
        page = response.content.decode()
        assert "None of the selected tenants can be used." in page
        assert 'type="submit" class="tenants-button' not in page
    assert sandbox.requests() == []


def test_step_that_does_not_apply_to_the_tenant_changes_nothing(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy("Acme")
    for action in ("sync", "unlink", "restore", "reactivate"):
        assert "There is nothing to do." in operator.do(action, tenant).content.decode()
    assert sandbox.requests() == []
    assert sources(tenant) == []


@pytest.mark.usefixtures("own_instance")
def test_one_failure_among_many_is_reported_in_a_table_and_stays_selected(
    sandbox: SandboxControl, operator: Staff
) -> None:
    tenants = [mirrored(sandbox, f"Acme {number}") for number in range(3)]
    sandbox.fault(f"GET /v1/organizations/{tenants[1].clerk_org_id}", status=422)

    response = operator.run("sync", *tenants)

    page = response.content.decode()
    assert response.status_code == 200
    assert "2 tenants synced from Clerk." in page
    assert "1 failed" in page
    assert "Sync 1 tenant from Clerk" in page
    assert shown_messages(response) == []
    again = operator.http.post(response.context["selection"].url)
    assert shown_messages(again) == [("success", "1 tenant synced from Clerk.")]


@pytest.mark.usefixtures("own_instance")
def test_failed_batch_keeps_what_was_entered(operator: Staff, sandbox: SandboxControl) -> None:
    healthy = mirrored(sandbox, "Healthy")
    deleted = recorded_as_deleted(sandbox)

    url = operator.select("suspend", healthy, deleted)["Location"]
    missing = operator.http.post(url, {"reason": " "})
    assert "This field is required." in missing.content.decode()
    assert missing.context["selection"].url == url

    assert shown_messages(operator.http.post(url, {"reason": "unpaid"})) == [
        ("success", "1 tenant suspended."),
        ("info", "Left out: 1 tenant (1 deleted in Clerk: restore or unlink first)."),
    ]


def test_selection_of_all_rows_carries_the_list_and_not_the_ids(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    for number in range(9):
        legacy(f"Acme {number}" if number % 3 else f"Other {number}")
    first = Tenant.objects.order_by("pk")[0]

    response = operator.select("suspend", first, query="?q=acme&linked=false&p=9", select_across="1")

    url = response["Location"]
    assert url == f"{CHANGELIST}do/suspend/?all=1&list=q%3Dacme%26linked%3Dfalse%26p%3D9"
    assert "Suspend 6 tenants" in operator.get(url).content.decode()
    confirmed = operator.http.post(url, {"reason": "unpaid"})
    assert shown_messages(confirmed) == [("success", "6 tenants suspended.")]
    assert confirmed["Location"] == f"{CHANGELIST}?q=acme&linked=false&p=9"
    assert set(Tenant.objects.filter(status="active").values_list("name", flat=True)) == {
        "Other 0",
        "Other 3",
        "Other 6",
    }


def test_more_than_20_rows_are_left_to_workers(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    for number in range(21):
        legacy(f"Acme {number}")
    url = f"{CHANGELIST}do/suspend/?all=1&list="

    assert "in the background" in operator.get(url).content.decode()
    response = operator.http.post(url, {"reason": "unpaid"})

    run = SyncRun.objects.get()
    assert (run.kind, run.cursor["tenants"]) == ("batch", 21)
    assert f"Run {run.pk} carries out “Suspend” for 21 tenants" in shown_messages(response)[0][1]
    assert operator.get(response["Location"]).status_code == 200
    assert not Tenant.objects.exclude(status="active").exists()


@pytest.mark.usefixtures("own_instance")
def test_tenant_with_many_members_is_left_to_workers(
    sandbox: SandboxControl, operator: Staff, linked: Callable[..., Tenant]
) -> None:
    tenant = linked("org_1")
    Membership.objects.bulk_create(
        Membership(tenant=tenant, clerk_user_id=f"user_{number}", role="org:member") for number in range(501)
    )
    operator.do("sync", tenant)
    assert SyncRun.objects.get().kind == "batch"
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    "query", ["", "?ids=", "?ids=1,x", "?ids=" + ",".join(["1"] * 201), "?ids=%00", "?ids=" + "9" * 5000]
)
def test_selection_that_cannot_be_read_is_not_found(operator: Staff, query: str) -> None:
    url = reverse("admin:tenants_tenant_do_selected", args=["suspend"])
    assert operator.http.post(f"{url}{query}", {"reason": "x"}).status_code == 404


@pytest.mark.parametrize("key", ["x", "", "1,2", "\0", "9" * 5000])
def test_list_action_on_an_invented_key_is_a_bad_request(operator: Staff, key: str) -> None:
    form = {"action": "suspend", "_selected_action": [key], "index": 0}
    assert operator.http.post(CHANGELIST, form).status_code == 400


@pytest.mark.usefixtures("own_instance")
def test_get_of_an_action_changes_nothing(
    sandbox: SandboxControl, administrator: Staff, legacy: Callable[..., Tenant]
) -> None:
    old, deleted = legacy("Old", {sandbox.user()["id"]: "owner"}), recorded_as_deleted(sandbox, "B")
    before = list(Tenant.objects.order_by("pk").values()), list(Membership.objects.order_by("pk").values())
    sandbox.clear_requests()

    for action in ("sync", "create_in_clerk", "restore", "deactivate", "delete"):
        tenant = old if action in ("create_in_clerk", "deactivate") else deleted
        query = "confirmation=B&delete_clerk_organization=on"
        assert administrator.get(f"{do_url(action, tenant)}?{query}").status_code == 200
        url = f"{CHANGELIST}do/{action}/?ids={old.pk},{deleted.pk}&confirmation=1"
        assert administrator.get(url).status_code == 200

    assert {request["method"] for request in sandbox.requests()} == {"GET"}
    after = list(Tenant.objects.order_by("pk").values()), list(Membership.objects.order_by("pk").values())
    assert before == after


def test_post_without_a_csrf_token_is_refused(operator: Staff, legacy: Callable[..., Tenant]) -> None:
    tenant = legacy("Acme")
    operator.http.handler.enforce_csrf_checks = True
    assert operator.do("deactivate", tenant).status_code == 403
    tenant.refresh_from_db()
    assert tenant.is_active


@pytest.mark.parametrize("text", hostile.TOGETHER, ids=["markup and length", "right to left"])
def test_hostile_name_slug_and_reason_are_shown_harmless(
    operator: Staff, legacy: Callable[..., Tenant], text: str
) -> None:
    tenants = [legacy(text, slug=text), legacy(text)]
    Tenant.objects.update(suspension_reason=text, status="suspended")
    pages = [
        operator.do("suspend", tenants[0], reason=f"{text}{' ' * 1001}x"),
        operator.get(operator.select("reactivate", *tenants)["Location"]),
        operator.do("create_in_clerk", tenants[0]),
    ]
    for page in pages:
        hostile.assert_harmless(page.content.decode(), text)
    operator.do("reactivate", tenants[0])
    hostile.assert_harmless(operator.get().content.decode(), text)
