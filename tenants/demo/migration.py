"""The step of the walk in which a legacy tenant moves to Clerk, by the command for all of them."""

import json

from tenants.demo.legacy import legacy_tenant
from tenants.demo.scene import ADMIN_ROLE, LEGACY_ROLE, MEMBER_ROLE, WITHOUT_SYNC, Json, Scene

MIGRATED = "From before Clerk, migrated"
LEGACY_MEMBER_ROLE = "member"

COMMAND = "migrate_tenants_to_clerk"


def migrate_tenant(scene: Scene) -> None:
    """The command makes an organization in Clerk for a legacy tenant, with its members."""
    roles = {scene.user_id: LEGACY_ROLE, scene.colleague_id: LEGACY_MEMBER_ROLE}
    tenant = legacy_tenant(MIGRATED, roles)
    scene.report.line(f"   tenant {tenant.pk} has NULL in clerk_org_id, and two members")
    scene.report.call(f"manage.py {COMMAND} --tenant {tenant.pk} --json")
    summary = json.loads(scene.manage(COMMAND, "--tenant", str(tenant.pk), "--json").splitlines()[-1])
    scene.report.records([summary])
    scene.verify(summary["created"] == 1, "one organization was created", summary)
    listed = scene.list_tenants(WITHOUT_SYNC).body
    migrated: Json = next((found for found in listed if found["id"] == tenant.pk), {})
    scene.verify(
        migrated.get("clerkOrgId") is not None and migrated["role"] == ADMIN_ROLE,
        f"the tenant is linked, its {LEGACY_ROLE} is now {ADMIN_ROLE}",
        migrated,
    )
    _verify_in_clerk(scene, migrated)


def _verify_in_clerk(scene: Scene, migrated: Json) -> None:
    path = f"/organizations/{migrated['clerkOrgId']}"
    members = scene.ask_clerk(f"{path}/memberships?limit=500")["data"]
    found = {
        "name": scene.ask_clerk(path)["name"],
        "roles": {member["public_user_data"]["user_id"]: member["role"] for member in members},
    }
    roles = {scene.user_id: ADMIN_ROLE, scene.colleague_id: MEMBER_ROLE}
    scene.verify(
        found == {"name": MIGRATED, "roles": roles}, f"Clerk has it, and both members: GET /v1{path}", found
    )
