"""Every action and every group: buttons, list actions and URLs agree about who may do what."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.urls import reverse

from tenants.admin.actions import buttons_for
from tenants.models import Tenant
from tests.sandbox import SandboxControl
from tests.tenants.admin.actions.conftest import mirrored, recorded_as_deleted
from tests.tenants.admin.conftest import CHANGELIST, Staff, do_url

OPERATE = {
    "compare",
    "sync",
    "create_in_clerk",
    "link",
    "unlink",
    "restore",
    "suspend",
    "deactivate",
    "reactivate",
}
EVERYTHING = OPERATE | {"delete"}

GROUPS: dict[str, set[str]] = {
    "none": set(),
    "Tenant viewers": set(),
    "Tenant operators": OPERATE,
    "Tenant administrators": EVERYTHING,
    "superuser": EVERYTHING,
}


@pytest.fixture
def subjects(own_instance: None, sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> dict[str, Tenant]:
    """A tenant for each action, to which the action applies."""
    active, old = mirrored(sandbox, "Active"), legacy("Old", {sandbox.user()["id"]: "owner"})
    deleted, closed = recorded_as_deleted(sandbox, "Deleted"), legacy("Closed", status="deactivated")
    by_tenant = {
        active: ("compare", "sync", "unlink", "suspend", "deactivate"),
        old: ("create_in_clerk", "link", "delete"),
        deleted: ("restore",),
        closed: ("reactivate",),
    }
    return {action: tenant for tenant, actions in by_tenant.items() for action in actions}


def member_of(group: str) -> Staff:
    staff = Staff(group=group)
    User.objects.update(is_superuser=group == "superuser")
    return staff


def page_url(action: str, tenant: Tenant) -> str:
    return f"{CHANGELIST}{tenant.pk}/compare/" if action == "compare" else do_url(action, tenant)


def rows() -> list[Any]:
    return list(Tenant.objects.order_by("pk").values())


@pytest.mark.parametrize("group", GROUPS)
def test_action_of_a_group_button_url_and_list_agree(group: str, subjects: dict[str, Tenant]) -> None:
    staff, allowed, before = member_of(group), GROUPS[group], rows()
    request = RequestFactory().get("/")
    request.user = User.objects.get()
    assert subjects.keys() == EVERYTHING

    for action, tenant in subjects.items():
        url = page_url(action, tenant)
        shown = {button.url for button in buttons_for(request, tenant)}
        status = staff.get(url).status_code
        assert (url in shown, status) == ((True, 200) if action in allowed else (False, 403)), action
        if action in allowed:
            continue
        assert staff.http.post(url, {"reason": "x", "confirmation": str(tenant)}).status_code == 403, action
        if action == "compare":
            continue
        selected = reverse("admin:tenants_tenant_do_selected", args=[action]) + f"?ids={tenant.pk}"
        assert staff.get(selected).status_code == 403, action
        assert staff.http.post(selected, {"reason": "x", "confirmation": "1"}).status_code == 403, action
    if group != "none":
        form = staff.get().context["action_form"]
        offered = set() if form is None else set(dict(form.fields["action"].choices))
        assert offered - {""} == allowed - {"compare"}
    assert rows() == before


@pytest.mark.parametrize("attribute", ["is_staff", "is_active"])
def test_action_of_a_former_staff_user_is_refused(subjects: dict[str, Tenant], attribute: str) -> None:
    staff, before = member_of("superuser"), rows()
    User.objects.update(**{attribute: False})
    for action, tenant in subjects.items():
        response = staff.http.post(page_url(action, tenant), {"confirmation": str(tenant)})
        assert response["Location"].startswith("/admin/login/")
    assert rows() == before


def test_action_that_does_not_apply_has_no_button(subjects: dict[str, Tenant]) -> None:
    member_of("superuser")
    request = RequestFactory().get("/")
    request.user = User.objects.get()
    labels = {
        name: [button.label for button in buttons_for(request, subjects[name])]
        for name in ("create_in_clerk", "restore")
    }
    assert labels["create_in_clerk"] == [
        "Create in Clerk",
        "Link to organization",
        "Suspend",
        "Deactivate",
        "Delete",
    ]
    assert labels["restore"] == ["Sync from Clerk", "Compare with Clerk", "Unlink", "Restore", "Delete"]


def test_unknown_action_is_not_found(subjects: dict[str, Tenant]) -> None:
    staff = member_of("superuser")
    tenant = subjects["sync"]
    for path in (f"{tenant.pk}/do/explode/", "do/explode/?ids=1", "do/compare/?ids=1"):
        assert staff.get(f"{CHANGELIST}{path}").status_code == 404


@pytest.mark.parametrize("permission", ["view_membership", "view_tenant"])
def test_staff_without_view_membership_see_no_member(
    own_instance: None, sandbox: SandboxControl, legacy: Callable[..., Tenant], permission: str
) -> None:
    member = sandbox.user()["id"]
    old, organization = legacy("Old", {member: "owner"}), sandbox.organization("New", member)
    mirror = mirrored(sandbox, "Mirror")
    mirrored_member = mirror.memberships.values_list("clerk_user_id", flat=True)[0]
    staff = Staff("view_tenant", "sync_tenant", "link_tenant", permission)

    compared = staff.get(page_url("compare", mirror)).content.decode()
    preview = staff.get(f"{do_url('link', old)}?organization={organization['id']}").content.decode()

    assert "1 in Clerk, 1 active here" in compared
    assert "1 member here" in preview
    shown = permission == "view_membership"
    assert (mirrored_member in compared, preview.count(member)) == (shown, 2 if shown else 0)
