"""A backup that is restored after Clerk has moved on, and the move to another Clerk instance."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config.embedded_postgres.installation import installed_tree
from tenants.models import CreationAttempt, Tenant
from tests.children import PROJECT, child_environment
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller
from tests.workers import database_url

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

ORGANIZATIONS = 30


def run(clerk: dict[str, str], *command: str, url: str | None = None, code: int = 0) -> dict[str, Any]:
    """Run `manage.py` on a database; require the exit code, and return the summary."""
    environment = child_environment(clerk) | {"CLERK_INSTANCE_ID": "", "DATABASE_URL": url or database_url()}
    child = subprocess.run(
        [sys.executable, "manage.py", *command, "--json"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == code, child.stdout + child.stderr
    return dict(json.loads(child.stdout.splitlines()[-1]))


def dump(file: Path) -> None:
    """Back up the test database."""
    pg_tool("pg_dump", "--format=custom", f"--file={file}", database_url())


def restore(file: Path, url: str) -> None:
    """Restore a backup into an empty database."""
    pg_tool("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={url}", str(file))


def pg_tool(name: str, *arguments: str) -> None:
    subprocess.run([installed_tree() / "bin" / name, *arguments], check=True, env={"PATH": os.defpath})


def rows(url: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as database:
        return database.execute(sql, parameters or None).fetchall()


def mirrored(url: str) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    """Return id and name of each active linked tenant, and organization, user and role of its members."""
    tenants = rows(
        url, "SELECT clerk_org_id, name FROM tenants WHERE deleted_at IS NULL AND clerk_org_id <> ''"
    )
    members = rows(
        url,
        "SELECT clerk_org_id, clerk_user_id, role FROM memberships JOIN tenants ON tenants.id = tenant_id"
        " WHERE is_active AND clerk_org_id <> ''",
    )
    return dict(tenants), set(members)


def in_clerk(sandbox: SandboxControl) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    """Return the same of the local Clerk."""
    organizations = sandbox.api("GET", "/organizations", limit=500)["data"]
    members = sandbox.api("GET", "/organization_memberships", limit=500)["data"]
    return (
        {one["id"]: one["name"] for one in organizations},
        {(one["organization"]["id"], one["public_user_data"]["user_id"], one["role"]) for one in members},
    )


def creations(sandbox: SandboxControl) -> int:
    return len(sandbox.requests("POST", "/v1/organizations"))


def move_on(sandbox: SandboxControl, ada: Caller, renamed: str, deleted: str, left: str) -> None:
    """Change Clerk after the backup."""
    sandbox.api("PATCH", f"/organizations/{renamed}", {"name": "Renamed after the backup"})
    sandbox.api("DELETE", f"/organizations/{deleted}")
    member = sandbox.api("GET", f"/organizations/{left}/memberships")["data"][0]["public_user_data"][
        "user_id"
    ]
    sandbox.api("DELETE", f"/organizations/{left}/memberships/{member}")
    sandbox.organization("New after the backup", created_by=ada.id)
    assert ada.create("Created after the backup").status_code == 201


def test_restored_backup_after_a_full_sync_equals_clerk_and_creates_nothing_twice(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant], new_database: str, tmp_path: Path
) -> None:
    sandbox.reset(organizations=ORGANIZATIONS, users=10, membershipsPerOrganization=2)
    sandbox.user(ada.id)
    clerk = dict(sandbox.description)
    migrated_later = legacy("Migrated after the backup", {ada.id: "owner"})
    run(clerk, "sync_from_clerk")
    kept, *changing = (one["id"] for one in sandbox.api("GET", "/organizations", limit=4)["data"])
    Tenant.objects.filter(clerk_org_id=kept).update(status="suspended", suspension_reason="unpaid")
    # A creation whose reply is lost: it is unfinished in the backup.
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)
    key = {"Idempotency-Key": "unfinished"}
    assert ada.create("Unfinished at the backup", **key).status_code == 500
    CreationAttempt.objects.update(sent_at="2026-01-01T00:00:00Z")

    dump(tmp_path / "backup")
    move_on(sandbox, ada, *changing)
    assert run(clerk, "migrate_tenants_to_clerk")["created"] == 1
    created = creations(sandbox)
    restore(tmp_path / "backup", new_database)
    run(clerk, "sync_from_clerk", url=new_database)
    run(clerk, "migrate_tenants_to_clerk", url=new_database)

    assert mirrored(new_database) == in_clerk(sandbox)
    assert creations(sandbox) == created

    def found(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return rows(new_database, sql, *parameters)

    assert found("SELECT status FROM tenants WHERE suspension_reason = 'unpaid'") == [("suspended",)]
    assert found("SELECT clerk_org_id IS NULL FROM tenants WHERE id = %s", migrated_later.pk) == [(False,)]
    assert found("SELECT state FROM creation_attempts") == [("succeeded",)]
    assert found("SELECT count(*) FROM tombstones WHERE clerk_id = %s", changing[1]) == [(1,)]


def test_move_to_another_instance_keeps_tenants_and_members(sandbox: SandboxControl, ada: Caller) -> None:
    """As the guide says: unlink, change the key, adopt, sync, migrate."""
    old = dict(sandbox.description)
    acme = ada.create("Acme", slug="acme").json()["id"]
    Tenant.objects.filter(pk=acme).update(status="suspended", suspension_reason="unpaid")
    gone = sandbox.user()["id"]
    sandbox.membership(str(Tenant.objects.get(pk=acme).clerk_org_id), gone)
    run(old, "sync_from_clerk")
    new = {**sandbox.use_instance("other"), "apiUrl": old["apiUrl"]}
    sandbox.user(ada.id)
    refused = run(new, "sync_from_clerk", code=1)
    assert "--adopt-instance" in refused["error"]

    run(old, "unlink_tenants", str(acme))
    run(new, "check_clerk", "--adopt-instance")
    run(new, "sync_from_clerk", "--max-retire-percent", "100")
    report = run(new, "migrate_tenants_to_clerk", code=1)

    # Clerk moves no users: the member who is unknown there is named, and stays a member here only.
    assert (report["created"], report["members_refused"]) == (1, 1)
    tenant = Tenant.objects.get(pk=acme)
    names, members = mirrored(database_url())
    assert (names, members - {(tenant.clerk_org_id, gone, "org:member")}) == in_clerk(sandbox)
    assert (tenant.status, tenant.suspension_reason) == ("suspended", "unpaid")
