"""The migrations from a database that was made before Clerk, also while it is in use."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.migrations import CreateModel
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from tenants.models import SyncRun
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

BEFORE = [("tenants", "0001_initial")]


def migrate(targets: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    return executor.loader.project_state(targets).apps


@pytest.mark.django_db(transaction=True)
def test_migrate_rows_from_before_clerk_keep_working(sandbox: SandboxControl, ada: Caller) -> None:
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
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


def value(sql: str, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]


def insert_legacy_rows(count: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tenants (name, slug)"
            " SELECT 'Tenant ' || number, 't-' || number FROM generate_series(1, %s) AS number",
            [count],
        )
        cursor.execute(
            "INSERT INTO memberships (tenant_id, clerk_user_id, role)"
            " SELECT id, 'user_' || id, 'owner' FROM tenants"
        )


def use_tables(stopping: Event) -> float:
    """Read and write both tables until `stopping`, and return the seconds of the longest transaction."""
    longest = 0.0
    number = 0
    while not stopping.is_set():
        number += 1
        begun = time.monotonic()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE tenants SET name = name WHERE slug = %s", [f"t-{number}"])
            cursor.execute("UPDATE memberships SET role = role WHERE clerk_user_id = 'user_1'")
            cursor.execute("INSERT INTO tenants (name) VALUES ('new')")
            cursor.execute("SELECT count(*) FROM memberships WHERE clerk_user_id = 'user_2'")
        longest = max(longest, time.monotonic() - begun)
    return longest


def in_own_connection(action: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return action(*arguments)
    finally:
        connections.close_all()


def hold_rows(seconds: float, held: Event) -> None:
    """Be a transaction that stays open: no table can be changed meanwhile."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM tenants, memberships WHERE tenants.id < 3 AND memberships.id < 3"
        )
        held.set()
        time.sleep(seconds)


ONLINE = {"Step", "AddIndexOnline", "AddCheckOnline", "AddUniqueConstraintOnline", "MakeUniqueOnline"}
HARMLESS = {"CreateModel", "RunSQL", "RunPython", "AlterModelManagers", "AlterModelOptions"}
"""Operations that lock no table of an older migration; RunSQL and RunPython are for rows."""


def test_migrations_after_the_first_lock_tables_with_a_timeout_and_a_retry() -> None:
    loader = MigrationLoader(None)
    locking = {
        f"{app}.{name}: {type(operation).__name__}"
        for (app, name), migration in loader.disk_migrations.items()
        if app in ("clerk_integration", "tenants") and not name.startswith("0001")
        for operation in migration.operations
        if type(operation).__name__ not in ONLINE | HARMLESS or _refers_to_older(operation, migration)
    }

    assert not locking, "use clerk_integration.migrations._online: these may block every other session"


def _refers_to_older(operation: Any, migration: Any) -> bool:
    """Whether the operation creates a table with a foreign key, which locks the older table."""
    new = {f"{migration.app_label}.{one.name_lower}" for one in migration.operations if _creates(one)}
    fields = [field for _, field in operation.fields] if _creates(operation) else []
    targets = {field.remote_field.model.lower() for field in fields if field.remote_field is not None}
    return not targets <= new


def _creates(operation: Any) -> bool:
    return isinstance(operation, CreateModel)


@pytest.mark.django_db(transaction=True)
def test_migrate_with_two_full_syncs_that_were_killed_keeps_the_newest() -> None:
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        runs = migrate([("tenants", "0004_installation")]).get_model("tenants", "SyncRun").objects
        killed = [runs.create(kind="full_sync").pk for _ in range(3)]
    finally:
        migrate(latest)

    states = dict(SyncRun.objects.values_list("pk", "state"))
    assert [states[pk] for pk in killed] == ["interrupted", "interrupted", "running"]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [50_000])
def test_migrate_tables_in_use_blocks_nobody_for_more_than_a_second(count: int) -> None:
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    stopping, held = Event(), Event()
    try:
        migrate(BEFORE)
        insert_legacy_rows(count)
        with ThreadPoolExecutor(2) as pool:
            pool.submit(in_own_connection, hold_rows, 3.0, held)
            held.wait()
            usage = pool.submit(in_own_connection, use_tables, stopping)
            try:
                migrate(latest)
            finally:
                stopping.set()
        assert usage.result() < 1.0
    finally:
        stopping.set()
        migrate(latest)

    assert value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    assert value("SELECT count(*) FROM pg_constraint WHERE NOT convalidated") == 0


@pytest.mark.django_db(transaction=True)
def test_migrate_interrupted_continues_where_it_stopped() -> None:
    """An index that was left half built is built again."""
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        migrate([("tenants", "0003_sync_runs")])
        with connection.cursor() as cursor:  # As if 0002 had stopped after its columns.
            cursor.execute("ALTER TABLE tenants DROP CONSTRAINT tenants_clerk_org_id_key")
            cursor.execute("ALTER TABLE tenants DROP CONSTRAINT tenants_deleted_is_deactivated")
            cursor.execute("DROP INDEX tenants_slug")
            cursor.execute("CREATE INDEX tenants_slug ON tenants (slug)")
            cursor.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'tenants_slug'::regclass"
            )
            cursor.execute("DELETE FROM django_migrations WHERE app = 'tenants' AND name >= '0002'")
            cursor.execute("DROP TABLE sync_run_pages, sync_run_slices, sync_runs")
    finally:
        migrate(latest)

    assert value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    names = ["tenants_clerk_org_id_key", "tenants_deleted_is_deactivated"]
    assert value("SELECT count(*) FROM pg_constraint WHERE conname = ANY (%s)", names) == 2
