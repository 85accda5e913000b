"""The history of tenants: which changes the triggers record, with which source and actor."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.webhooks.registry import ClerkEvent, handle
from tenants import history
from tenants.mirror import deletions, leases, writer
from tenants.models import Tenant, TenantHistory
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db


def entries(**filters: Any) -> list[tuple[str, str, str, str, Any]]:
    """Return (source, actor, action, member, changes) of the entries, oldest first."""
    rows = TenantHistory.objects.filter(**filters).order_by("id")
    return list(rows.values_list("source", "actor", "action", "clerk_user_id", "changes"))


def organization(name: str, version: int = 1, number: int = 1, **fields: Any) -> ClerkOrganization:
    return ClerkOrganization(id=f"org_{number}", name=name, updated_at=version, **fields)


def member(user: str, role: str = "org:member", version: int = 1) -> ClerkMembership:
    return ClerkMembership(f"orgmem_{user}", user, role, organization("Acme"), 1, version)


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_sync_first_insert_and_unchanged_rows_record_nothing(rows: int) -> None:
    organizations = [organization("Acme", number=number) for number in range(1, rows + 1)]
    writer.write_organizations(organizations)
    writer.write_organizations(organizations)
    writer.write_memberships([member(f"user_{number}") for number in range(rows)])
    writer.write_memberships([member(f"user_{number}") for number in range(rows)])
    writer.write_organization(organization("Acme"))

    assert entries() == []


def test_sync_changes_are_recorded_once_each_with_old_and_new_values() -> None:
    writer.write_organizations([organization("Acme", number=number) for number in range(1, 10)])
    writer.write_organizations(
        [organization("Acme", number=number, public_metadata={"seats": 2}) for number in range(1, 9)]
    )
    writer.write_organizations([organization("Acme Ltd", 2, 9, slug="acme")])
    writer.write_memberships([member("user_1"), member("user_2")])
    writer.write_memberships([member("user_1", "org:admin", 2)])
    deletions.record_user_deleted("user_2")

    changes = {"name": ["Acme", "Acme Ltd"], "slug": [None, "acme"]}
    assert entries() == [
        ("sync", "", "renamed", "", changes),
        ("sync", "", "role_changed", "user_1", {"role": ["org:member", "org:admin"]}),
        ("sync", "", "member_removed", "user_2", {"is_active": [True, False]}),
    ]


def test_webhooks_record_new_rows_too() -> None:
    def receive(kind: str, data: dict[str, Any]) -> None:
        handle([ClerkEvent.from_json({"type": kind, "data": data})])

    acme = {"id": "org_1", "name": "Acme", "slug": "acme", "updated_at": 1}
    receive("organization.created", acme)
    user = {"user_id": "user_1"}
    record = {"id": "orgmem_1", "role": "org:admin", "organization": acme, "public_user_data": user}
    receive("organizationMembership.created", record)
    receive("organization.deleted", {"id": "org_1"})

    assert [(source, action, user) for source, _, action, user, _ in entries()] == [
        ("webhook", "created", ""),
        ("webhook", "member_added", "user_1"),
        ("webhook", "deleted_in_clerk", ""),
        ("webhook", "member_removed", "user_1"),
    ]
    assert entries(action="created")[0][4] == {
        "name": [None, "Acme"],
        "slug": [None, "acme"],
        "status": [None, "active"],
        "suspension_reason": [None, ""],
        "clerk_org_id": [None, "org_1"],
    }


def test_create_is_attributed_to_the_caller(ada: Caller) -> None:
    first, second = ada.create("First").json()["id"], ada.create("Second").json()["id"]

    assert {(source, actor) for source, actor, *_ in entries()} == {("api", ada.id)}
    assert [action for *_, action, _, _ in entries(tenant_id=first)] == [
        "created",
        "member_added",
        "primary_set",
        "primary_cleared",
    ]
    assert [action for *_, action, _, _ in entries(tenant_id=second)] == [
        "created",
        "member_added",
        "primary_set",
    ]


def test_list_that_finds_changes_is_attributed_to_the_sync(sandbox: SandboxControl, ada: Caller) -> None:
    tenant = ada.create("Acme").json()
    sandbox.api("PATCH", f"/organizations/{tenant['clerkOrgId']}", {"name": "Acme Ltd"})
    TenantHistory.objects.all().delete()
    leases.expire(ada.id)

    ada.tenants()

    assert entries() == [("sync", "", "renamed", "", {"name": ["Acme", "Acme Ltd"]})]


@pytest.mark.parametrize(
    ("columns", "action"),
    [
        ({"name": "Other"}, "renamed"),
        ({"slug": "other"}, "renamed"),
        ({"status": "suspended", "suspension_reason": "unpaid"}, "suspended"),
        ({"status": "deactivated", "name": "Other"}, "deactivated"),
        ({"clerk_org_id": "org_1"}, "linked"),
    ],
)
def test_statement_outside_the_services_is_recorded_with_the_source_command(
    legacy: Callable[..., Tenant], columns: dict[str, str], action: str
) -> None:
    tenant = legacy("Old & Sons")

    Tenant.objects.filter(pk=tenant.pk).update(**columns)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenants SET last_synced_at = now(), logo_url = 'x', updated_at = now()")

    [(source, actor, recorded, _, changes)] = entries()
    assert (source, actor, recorded) == ("command", "", action)
    assert {column: new for column, (_, new) in changes.items()} == columns


def test_history_of_a_deleted_tenant_is_kept(legacy: Callable[..., Tenant]) -> None:
    tenant = legacy("Old & Sons", {"user_1": "owner"})
    tenant_id = tenant.pk

    with history.change_by(User(username="staff")):
        tenant.delete()

    [(source, actor, action, _, changes)] = entries(tenant_id=tenant_id)
    assert (source, actor, action, changes["name"]) == ("staff", "staff", "deleted", ["Old & Sons", None])


@pytest.mark.django_db(transaction=True)
def test_source_and_actor_end_with_their_transaction(legacy: Callable[..., Tenant]) -> None:
    """The next transaction of the connection may be another client's: PgBouncer shares connections."""
    tenant = legacy()
    with history.change_by("user_1"):
        Tenant.objects.filter(pk=tenant.pk).update(name="First")
    Tenant.objects.filter(pk=tenant.pk).update(name="Second")

    assert [entry[:2] for entry in entries()] == [("api", "user_1"), ("command", "")]


def test_delete_old_history_keeps_the_links_of_tenants_that_exist(legacy: Callable[..., Tenant]) -> None:
    """They tell a linked tenant from one that only mirrors its organization, which a link absorbs."""
    for number in range(3):
        Tenant.objects.filter(pk=legacy().pk).update(clerk_org_id=f"org_{number}")
    Tenant.objects.filter(clerk_org_id="org_1").delete()
    TenantHistory.objects.update(at=F("at") - timedelta(days=800))

    history.delete_old_history()

    left = TenantHistory.objects.order_by("id").values_list("action", "changes__clerk_org_id")
    assert list(left) == [("linked", [None, "org_0"]), ("linked", [None, "org_2"])]


@pytest.mark.parametrize(("days", "left"), [(730, 3), (30, 1), (0, 9), (999_999_999, 9)])
def test_delete_old_history_keeps_what_is_younger(
    legacy: Callable[..., Tenant], settings: Any, days: int, left: int
) -> None:
    settings.TENANT_HISTORY_DAYS = days
    tenant = legacy()
    for number in range(9):
        Tenant.objects.filter(pk=tenant.pk).update(name=f"Name {number}")
    ids = list(TenantHistory.objects.order_by("id").values_list("id", flat=True))
    TenantHistory.objects.filter(id__in=ids[:6]).update(at=F("at") - timedelta(days=800))
    TenantHistory.objects.filter(id__in=ids[6:8]).update(at=F("at") - timedelta(days=100))

    assert history.delete_old_history() == 9 - left

    assert TenantHistory.objects.count() == left


@pytest.mark.parametrize("days", [-2, "-2", "abc", "", 1.5, float("nan"), True, [], 10**9])
def test_delete_old_history_for_a_value_that_is_no_number_of_days_deletes_nothing(
    legacy: Callable[..., Tenant], settings: Any, caplog: pytest.LogCaptureFixture, days: object
) -> None:
    settings.TENANT_HISTORY_DAYS = days
    Tenant.objects.filter(pk=legacy().pk).update(name="Renamed")
    TenantHistory.objects.update(at=F("at") - timedelta(days=800))

    assert history.delete_old_history() == 0

    assert TenantHistory.objects.exists()
    assert "TENANT_HISTORY_DAYS is not a number of days" in caplog.text
