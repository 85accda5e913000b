"""A project with ATOMIC_REQUESTS: views and admin pages that call Clerk run outside its transaction."""

from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from tenants.models import Tenant
from tests.sandbox import SandboxControl
from tests.tenants.admin.conftest import CHANGELIST, Staff, shown_messages
from tests.tenants.conftest import Caller

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("atomic_requests")]


@pytest.fixture
def atomic_requests() -> Iterator[None]:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False


def test_api_with_atomic_requests_calls_clerk(sandbox: SandboxControl, ada: Caller) -> None:
    created = ada.create("Acme")
    listed = ada.tenants()
    primary = ada.request("PATCH", f"/tenants/{created.json()['id']}/set-primary")

    assert (created.status_code, listed.status_code, primary.status_code) == (201, 200, 200)
    assert listed.headers["X-Clerk-Sync"] == "synced"


def test_admin_actions_with_atomic_requests_call_clerk(
    sandbox: SandboxControl, legacy: Callable[..., Tenant]
) -> None:
    staff = Staff(group="Tenant operators")
    first, second = (legacy(name, {sandbox.user()["id"]: "owner"}) for name in ("First", "Second"))
    organization = sandbox.organization("Second")["id"]

    created = shown_messages(staff.run("create_in_clerk", first))
    linked = staff.do("link", second, clerk_org_id=organization)
    staff.get()  # Reads the messages.
    compared = staff.get(f"{CHANGELIST}{first.pk}/compare/")
    synced = shown_messages(staff.run("sync", first, second))

    assert created == [("success", "1 tenant created in Clerk.")]
    assert linked.status_code == 302
    assert "No differences" in compared.content.decode()
    assert synced == [("success", "2 tenants synced from Clerk.")]
