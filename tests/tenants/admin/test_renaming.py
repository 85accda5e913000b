"""The admin page that renames a tenant, against the local Clerk."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from tenants import services
from tenants.admin.renaming import OUTCOME_UNKNOWN
from tenants.models import Tenant, TenantHistory
from tenants.services import sync_clerk_org_to_db
from tests.sandbox import SandboxControl
from tests.tenants.admin.conftest import CHANGELIST, Staff, shown_messages
from tests.tenants.admin.hostile import RIGHT_TO_LEFT

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(sandbox: SandboxControl) -> Tenant:
    """A tenant that is linked to an organization in the local Clerk."""
    tenant = sync_clerk_org_to_db(sandbox.organization("Acme", slug="acme")["id"])
    assert tenant is not None
    sandbox.clear_requests()
    return tenant


def rename(staff: Staff, tenant: Tenant, **values: str) -> Any:
    return staff.http.post(f"{CHANGELIST}{tenant.pk}/rename/", {"name": "Acme", "slug": "acme", **values})


def refusal(staff: Staff, tenant: Tenant, **values: str) -> dict[str, list[str]]:
    """Submit the form; check that it keeps the input and that nothing was renamed; return its errors."""
    response = rename(staff, tenant, **values)
    assert response.status_code == 200
    form = response.context["form"]
    assert {name: form[name].value() for name in values} == values
    tenant.refresh_from_db()
    assert (tenant.name, tenant.slug) == ("Acme", "acme")
    return {name: list(errors) for name, errors in form.errors.items()}


def test_rename_linked_tenant_changes_clerk_and_the_tenant(
    sandbox: SandboxControl, operator: Staff, acme: Tenant
) -> None:
    response = rename(operator, acme, name="Acme Ltd")

    assert (response.status_code, response["Location"]) == (302, f"{CHANGELIST}{acme.pk}/change/")
    assert shown_messages(response) == [
        ("success", f"Acme (tenant {acme.pk}) is now Acme Ltd, slug acme, in Clerk and here.")
    ]
    assert sandbox.api("GET", f"/organizations/{acme.clerk_org_id}")["name"] == "Acme Ltd"
    acme.refresh_from_db()
    assert acme.name == "Acme Ltd"
    change = TenantHistory.objects.filter(tenant_id=acme.pk).latest("id")
    assert (change.source, change.actor, change.action) == ("staff", "staff", "renamed")


def test_rename_legacy_tenant_calls_no_clerk(
    sandbox: SandboxControl, operator: Staff, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy(RIGHT_TO_LEFT)
    [(level, message)] = shown_messages(rename(operator, tenant, name="Old", slug=""))
    assert level == "success"
    assert message.endswith(f"(tenant {tenant.pk}) is now Old, here.")
    assert "\N{POP DIRECTIONAL ISOLATE} (tenant" in message
    assert sandbox.requests() == []


def test_rename_unchanged_values_send_nothing(sandbox: SandboxControl, operator: Staff, acme: Tenant) -> None:
    messages = shown_messages(rename(operator, acme))
    assert messages == [("info", f"Acme (tenant {acme.pk}) has this name and slug already.")]
    assert sandbox.requests() == []


def test_rename_keeps_the_name_that_another_user_gave_meanwhile(
    sandbox: SandboxControl, operator: Staff, acme: Tenant
) -> None:
    page = operator.get(f"{CHANGELIST}{acme.pk}/rename/").content.decode()
    assert '<input type="hidden" name="initial-name" value="Acme"' in page
    services.rename(acme, name="Acme Ltd", acting_user=None)

    rename(operator, acme, slug="acme-2", **{"initial-name": "Acme", "initial-slug": "acme"})

    acme.refresh_from_db()
    assert (acme.name, acme.slug) == ("Acme Ltd", "acme-2")


def test_rename_taken_slug_is_shown_on_the_field(
    sandbox: SandboxControl, operator: Staff, acme: Tenant
) -> None:
    sandbox.organization("Other", slug="taken")
    errors = refusal(operator, acme, slug="taken")
    assert list(errors) == ["slug"]
    assert "Nothing was changed." in errors["slug"][0]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": RIGHT_TO_LEFT}, "name"),
        ({"name": "a" * 257}, "name"),
        ({"slug": "Not a slug"}, "slug"),
        ({"slug": ""}, "slug"),
    ],
)
def test_rename_value_that_clerk_would_refuse_sends_nothing(
    sandbox: SandboxControl, operator: Staff, acme: Tenant, values: dict[str, str], field: str
) -> None:
    assert list(refusal(operator, acme, **values)) == [field]
    assert sandbox.requests() == []


@pytest.mark.parametrize("fault", [{"status": 503}, {"rateLimit": 2}, {"status": 401}])
def test_rename_while_clerk_fails_keeps_the_input(
    sandbox: SandboxControl, operator: Staff, acme: Tenant, fault: dict[str, Any]
) -> None:
    sandbox.fault("PATCH /v1/organizations/*", times=9, **fault)
    errors = refusal(operator, acme, name="Acme Ltd")
    assert list(errors) == ["__all__"]
    [message] = errors["__all__"]
    assert message.endswith(".")
    assert sandbox.api("GET", f"/organizations/{acme.clerk_org_id}")["name"] == "Acme"


def test_rename_with_a_lost_reply_says_that_clerk_may_have_changed(
    sandbox: SandboxControl, operator: Staff, acme: Tenant
) -> None:
    sandbox.fault("PATCH /v1/organizations/*", dropAfterCommit=True)
    [message] = refusal(operator, acme, name="Acme Ltd")["__all__"]
    assert message.endswith(OUTCOME_UNKNOWN)


def test_rename_while_clerk_is_slow_answers_at_the_deadline(
    sandbox: SandboxControl, operator: Staff, acme: Tenant, settings: Settings
) -> None:
    for name in ("Acme 2", "Acme"):  # The first call imports the part of the SDK that a rename needs.
        rename(operator, acme, name=name)
    settings.CLERK_TIMEOUT_SECONDS = 0.5
    sandbox.fault("PATCH /v1/organizations/*", timeoutSeconds=2)
    [message] = refusal(operator, acme, name="Acme Ltd")["__all__"]
    assert OUTCOME_UNKNOWN in message


def test_rename_inactive_tenant_is_refused(sandbox: SandboxControl, operator: Staff, acme: Tenant) -> None:
    Tenant.objects.filter(pk=acme.pk).update(status="suspended")
    assert "__all__" in refusal(operator, acme, name="Acme Ltd")
    assert "Rename" not in [
        button.label for button in operator.get(f"{CHANGELIST}{acme.pk}/change/").context["buttons"]
    ]
    assert sandbox.requests() == []


def test_rename_without_the_permission_is_refused(
    sandbox: SandboxControl, viewer: Staff, acme: Tenant
) -> None:
    assert viewer.get(f"{CHANGELIST}{acme.pk}/rename/").status_code == 403
    assert rename(viewer, acme, name="Acme Ltd").status_code == 403
    assert sandbox.requests() == []
