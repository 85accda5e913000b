"""Steps of the walk: tenants are created and listed."""

from http import HTTPStatus

from tenants.demo.legacy import legacy_tenant
from tenants.demo.scene import ADMIN_ROLE, CREATE, LEGACY_ROLE, Scene, named

CREATED_HERE = "Created through the API"
CREATED_IN_CLERK = "Created in Clerk"
LEGACY = "From before Clerk"


def create_tenant(scene: Scene) -> None:
    """POST creates the organization in Clerk and its tenant here, with the caller as its admin."""
    answer = scene.api.call("POST", CREATE, {"name": CREATED_HERE, "slug": "created-through-the-api"})
    scene.report.call(str(answer))
    scene.verify(answer.status == HTTPStatus.CREATED, "the tenant is created", answer.body)
    scene.created = answer.body
    scene.report.records([scene.created])
    organization_id = scene.created["clerkOrgId"]
    organization = scene.ask_clerk(f"/organizations/{organization_id}")
    scene.verify(
        organization["name"] == CREATED_HERE,
        f"Clerk has the organization: GET /v1/organizations/{organization_id}",
        organization,
    )
    role = scene.roles_in_clerk().get(organization_id)
    scene.verify(
        role == scene.created["role"] == ADMIN_ROLE,
        f"the caller's role is {ADMIN_ROLE}, in Clerk and here",
        {"in Clerk": role, "here": scene.created["role"]},
    )


def list_with_sync(scene: Scene) -> None:
    """An organization made in Clerk, as in its dashboard, is in the next list."""
    made = scene.clerk.call("POST", "/organizations", {"name": CREATED_IN_CLERK, "created_by": scene.user_id})
    scene.report.call(f"Clerk: {made}")
    answer = scene.list_tenants()
    scene.listed = answer.body
    scene.verify_sync(answer, "synced")
    first = scene.listed[0] if scene.listed else None
    scene.verify(
        first is not None and first["id"] == scene.created["id"] and first["isPrimary"],
        f"first comes the primary: tenant {scene.created['id']}, created above",
        first,
    )
    scene.verify_level_with_clerk(answer.body)
    is_there = named(answer.body, CREATED_IN_CLERK) is not None
    scene.verify(is_there, "the one made in Clerk is there", answer.body)


def show_legacy_tenant(scene: Scene) -> None:
    """A tenant from before Clerk (`clerk_org_id` is NULL) stands beside the linked ones."""
    legacy = legacy_tenant(LEGACY, {scene.user_id: LEGACY_ROLE})
    scene.report.line(f"   tenant {legacy.pk} has NULL in clerk_org_id, and the user as its {LEGACY_ROLE}")
    answer = scene.list_tenants()
    scene.verify_sync(answer, "synced")
    shown = next((tenant for tenant in answer.body if tenant["id"] == legacy.pk), None)
    scene.verify(
        shown is not None and shown["clerkOrgId"] is None and shown["role"] == LEGACY_ROLE,
        "the sync has left it alone: no clerkOrgId, its own role",
        shown,
    )
    scene.verify_level_with_clerk(answer.body)
    scene.listed = answer.body


def open_pages(scene: Scene) -> None:
    """The pages to look at are there."""
    for client, path in ((scene.api, "/api/v1/docs"), (scene.api, "/admin/login/"), (scene.control, "")):
        answer = client.call("GET", path)
        page = path or "/sandbox, of the local Clerk"
        scene.verify(answer.status == HTTPStatus.OK, f"GET {page}", answer.body)
