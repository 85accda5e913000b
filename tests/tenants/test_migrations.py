"""The way from a database of before Clerk."""

from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

BEFORE = [("tenants", "0001_initial")]


def migrate(targets: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    return executor.loader.project_state(targets).apps


@pytest.mark.django_db(transaction=True)
def test_migrate_rows_from_before_clerk_keep_working(sandbox: SandboxControl, ada: Caller) -> None:
    latest = [key for key in MigrationExecutor(connection).loader.graph.leaf_nodes() if key[0] == "tenants"]
    try:
        apps = migrate(BEFORE)
        tenant = apps.get_model("tenants", "Tenant").objects.create(name="Old & Sons", slug="old-sons")
        apps.get_model("tenants", "Membership").objects.create(
            tenant=tenant, clerk_user_id=ada.id, role="owner", is_primary=True
        )
    finally:
        migrate(latest)

    sandbox.organization("Acme", created_by=ada.id)
    old, new = ada.tenants().json()

    assert (old["id"], old["name"], old["clerkOrgId"], old["role"]) == (
        tenant.pk,
        "Old & Sons",
        None,
        "owner",
    )
    assert (old["isPrimary"], new["name"], new["isPrimary"]) == (True, "Acme", False)
    assert ada.request("PATCH", f"/tenants/{new['id']}/set-primary").status_code == 200
    assert ada.get(f"/tenants/{tenant.pk}").json()["isPrimary"] is False
