"""Clerk down, slow or rate limited during each action: an answer in time, and nothing half written."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from tenants.models import Membership, Tenant, Tombstone
from tests.sandbox import SandboxControl
from tests.tenants.admin.actions.conftest import mirrored, recorded_as_deleted
from tests.tenants.admin.conftest import CHANGELIST, Staff, do_url, shown_messages

pytestmark = pytest.mark.usefixtures("own_instance")

FAULTS: dict[str, dict[str, Any]] = {
    "down": {"status": 503},
    "slow": {"timeoutSeconds": 8},
    "rate limited": {"rateLimit": 7},
}
SLOW = "did not answer in time"
REASONS = {
    "down": ("cannot serve the request", "Clerk has not answered", SLOW),
    "slow": (SLOW, "Clerk has not answered"),
    "rate limited": ("in 7 s", "Clerk has not answered", SLOW),
}
"""After two failures nothing is sent for a time. A loaded machine may exceed the short timeout first."""
TIMEOUT = 0.4

ENTERED: dict[str, dict[str, str]] = {
    "sync": {},
    "create_in_clerk": {"owner": "user_kept"},
    "restore": {},
    "link": {},
    "delete": {"confirmation": "Acme", "delete_clerk_organization": "on"},
}


@pytest.fixture
def subject(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> Callable[[str], Tenant]:
    def make(action: str) -> Tenant:
        if action == "restore":
            return recorded_as_deleted(sandbox)
        if action in ("create_in_clerk", "link"):
            return legacy("Acme", {sandbox.user()["id"]: "owner"})
        return mirrored(sandbox)

    return make


def rows() -> list[Any]:
    """Return all rows that an action may write."""
    return [list(model.objects.order_by("pk").values()) for model in (Tenant, Membership, Tombstone)]


class Outage:
    """Lets Clerk fail in one of three ways, and ends that."""

    def __init__(self, sandbox: SandboxControl, settings: Settings, kind: str) -> None:
        self.kind, self._sandbox, self._settings = kind, sandbox, settings

    def begin(self) -> None:
        self._settings.CLERK_TIMEOUT_SECONDS = str(TIMEOUT)
        self._sandbox.fault("* /v1/*", times=99, **FAULTS[self.kind])

    def end(self) -> None:
        self._sandbox.clear_faults()
        self._settings.CLERK_TIMEOUT_SECONDS = "5"


@pytest.fixture(params=[pytest.param("down", marks=pytest.mark.slow), "slow", "rate limited"])
def outage(request: pytest.FixtureRequest, sandbox: SandboxControl, settings: Settings) -> Outage:
    return Outage(sandbox, settings, request.param)


def answer(response: Any) -> str:
    """Return the page, which must be an answer of its own and not a redirect."""
    assert response.status_code == 200
    assert shown_messages(response) == []
    return str(response.content.decode())


@pytest.mark.parametrize("action", ENTERED)
def test_action_while_clerk_fails_keeps_everything_and_says_what_to_do(
    sandbox: SandboxControl,
    administrator: Staff,
    outage: Outage,
    subject: Callable[[str], Tenant],
    action: str,
) -> None:
    tenant = subject(action)
    entered = dict(ENTERED[action])
    if action == "link":
        entered["clerk_org_id"] = sandbox.organization("Acme")["id"]
    before = rows()
    outage.begin()

    page = answer(administrator.do(action, tenant, **entered))

    assert any(reason in page for reason in REASONS[outage.kind])
    for name, value in entered.items():
        assert f'name="{name}"' in page
        assert "checked" in page if value == "on" else f'value="{value}"' in page
    assert rows() == before
    assert f'action="{do_url(action, tenant)}"' in page
    if action == "delete" and outage.kind == "slow":
        return  # Clerk may have deleted the organization, as the page says.
    outage.end()
    if action not in ("restore", "create_in_clerk"):
        assert shown_messages(administrator.do(action, tenant, **entered))[0][0] == "success"


def test_action_that_needs_no_clerk_works_while_clerk_is_down(
    sandbox: SandboxControl, operator: Staff, subject: Callable[[str], Tenant]
) -> None:
    tenant = subject("suspend")
    sandbox.clear_requests()
    sandbox.fault("*", times=99, status=503)
    for action in ("suspend", "reactivate", "deactivate", "unlink"):
        response = operator.do(action, tenant, reason="unpaid")
        assert shown_messages(response)[-1][0] == "success"
    assert sandbox.requests() == []


def test_selected_rows_while_clerk_fails_stay_selected(
    sandbox: SandboxControl, administrator: Staff, outage: Outage
) -> None:
    tenants = [mirrored(sandbox, f"Acme {number}") for number in range(3)]
    url = administrator.select("sync", *tenants, query="?q=acme")["Location"]
    before = rows()
    outage.begin()

    page = answer(administrator.http.post(url))

    assert any(reason in page for reason in REASONS[outage.kind])
    assert "1 failed, 2 not tried" in page
    assert "Sync 3 tenants from Clerk" in page
    assert rows() == before
    outage.end()
    ids = "%2C".join(str(tenant.pk) for tenant in tenants)
    assert f"do/sync/?ids={ids}&amp;list=q%3Dacme" in page
    if outage.kind != "rate limited":  # Batches wait until Clerk's limit is over.
        again = administrator.http.post(f"{CHANGELIST}do/sync/?ids={ids}&list=q%3Dacme")
        assert shown_messages(again) == [("success", "3 tenants synced from Clerk.")]


def test_page_that_asks_clerk_while_clerk_fails_offers_to_ask_again(
    administrator: Staff, outage: Outage, subject: Callable[[str], Tenant]
) -> None:
    linked, legacy = subject("compare"), subject("link")
    outage.begin()
    for tenant, path, again in (
        (linked, "compare/", "?page=1"),
        (legacy, "do/link/?q=acme", 'value="acme"'),
        (legacy, "do/link/?organization=org_1", "?organization=org_1"),
        (legacy, "do/create_in_clerk/", "Create in Clerk</button>"),
    ):
        page = answer(administrator.get(f"{CHANGELIST}{tenant.pk}/{path}"))
        assert any(reason in page for reason in REASONS[outage.kind]), path
        assert again in page


def test_lost_reply_of_a_creation_is_confirmed_again_without_a_second_organization(
    sandbox: SandboxControl, operator: Staff, subject: Callable[[str], Tenant]
) -> None:
    tenant = subject("create_in_clerk")
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)

    page = operator.do("create_in_clerk", tenant).content.decode()

    assert "Clerk may have created the organization. Confirm again" in page
    again = operator.do("create_in_clerk", tenant)
    assert shown_messages(again) == [("success", f"Acme (tenant {tenant.pk}) was created in Clerk.")]
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_wrong_key_names_the_command_that_finds_the_cause(
    sandbox: SandboxControl, operator: Staff, subject: Callable[[str], Tenant]
) -> None:
    tenant = subject("sync")
    sandbox.fault("* /v1/*", times=9, status=401)
    page = operator.do("sync", tenant).content.decode()
    for text in ("CLERK_SECRET_KEY", "Nothing was changed.", "check_clerk"):
        assert text in page


def test_lost_reply_of_a_deletion_is_confirmed_again(
    sandbox: SandboxControl, administrator: Staff, subject: Callable[[str], Tenant]
) -> None:
    tenant, entered = subject("delete"), ENTERED["delete"]
    sandbox.fault(f"DELETE /v1/organizations/{tenant.clerk_org_id}", dropAfterCommit=True)

    page = administrator.do("delete", tenant, **entered).content.decode()

    assert "Clerk may have deleted the organization. Confirm again" in page
    assert Tenant.objects.filter(pk=tenant.pk).exists()
    assert shown_messages(administrator.do("delete", tenant, **entered))[0][0] == "success"
    assert not Tenant.objects.exists()


def test_failure_with_hostile_text_from_clerk_is_shown_harmless(
    sandbox: SandboxControl, operator: Staff, subject: Callable[[str], Tenant]
) -> None:
    tenant = subject("create_in_clerk")
    body = '{"errors": [{"code": "form_param_value_invalid", "message": "<script>alert(1)</script>"}]}'
    sandbox.fault("POST /v1/organizations", status=422, body=body)
    page = operator.do("create_in_clerk", tenant).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
