"""The step of the walk in which a legacy tenant moves to Clerk."""

import json

from tenants.demo.scene import (
    ADMIN_ROLE,
    LEGACY_ROLE,
    MEMBER_ROLE,
    WITHOUT_SYNC,
    Json,
    Scene,
    legacy_tenant,
)

MIGRATED = "From before Clerk, migrated"
COMMAND = "migrate_tenants_to_clerk"


def migrate_tenant(scene: Scene) -> None:
    """The command creates an organization in Clerk for a legacy tenant and its members."""
    tenant = legacy_tenant(MIGRATED, {scene.user_id: LEGACY_ROLE, scene.colleague_id: "member"})
    scene.report.line(f"   tenant {tenant.pk} has NULL in clerk_org_id, and two members")
    scene.report.line(f"   manage.py {COMMAND} --tenant {tenant.pk} --json")
    summary = json.loads(scene.manage(COMMAND, "--tenant", str(tenant.pk), "--json").splitlines()[-1])
    scene.report.records([summary])
    scene.verify(summary["created"] == 1, "one organization was created", summary)
    listed = scene.list_tenants(WITHOUT_SYNC, sync="skipped")
    migrated: Json = next((found for found in listed if found["id"] == tenant.pk), {})
    scene.verify(
        migrated.get("clerkOrgId") is not None and migrated["role"] == ADMIN_ROLE,
        f"the tenant is linked, and its {LEGACY_ROLE} is now {ADMIN_ROLE}",
        migrated,
    )
    path = f"/organizations/{migrated['clerkOrgId']}"
    members = scene.ask_clerk(f"{path}/memberships?limit=500")["data"]
    found = {
        "name": scene.ask_clerk(path)["name"],
        "roles": {member["public_user_data"]["user_id"]: member["role"] for member in members},
    }
    expected = {"name": MIGRATED, "roles": {scene.user_id: ADMIN_ROLE, scene.colleague_id: MEMBER_ROLE}}
    scene.verify(found == expected, f"Clerk has the organization and both members: GET /v1{path}", found)
