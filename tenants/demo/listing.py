"""Steps of the walk: tenants are created and listed."""

from http import HTTPStatus

from tenants.demo.report import summary
from tenants.demo.scene import ADMIN_ROLE, CREATE, LEGACY_ROLE, Scene, legacy_tenant, named

CREATED_HERE = "Created through the API"
CREATED_IN_CLERK = "Created in Clerk"
LEGACY = "From before Clerk"


def create_tenant(scene: Scene) -> None:
    """POST creates the organization in Clerk and the tenant here; the caller is its admin."""
    answer = scene.api.post(CREATE, json={"name": CREATED_HERE, "slug": "created-through-the-api"})
    scene.report.line(f"   {summary(answer)}")
    scene.verify(answer.status_code == HTTPStatus.CREATED, "the tenant is created", answer.text)
    scene.created = answer.json()
    scene.report.records([scene.created])
    path = f"/organizations/{scene.created['clerkOrgId']}"
    organization = scene.ask_clerk(path)
    scene.verify(
        organization["name"] == CREATED_HERE, f"Clerk has the organization: GET /v1{path}", organization
    )
    role = scene.roles_in_clerk().get(scene.created["clerkOrgId"])
    scene.verify(
        role == scene.created["role"] == ADMIN_ROLE,
        f"the caller's role is {ADMIN_ROLE}, in Clerk and here",
        {"in Clerk": role, "here": scene.created["role"]},
    )


def list_with_sync(scene: Scene) -> None:
    """The next list contains an organization that was created in Clerk."""
    scene.call_clerk("POST", "/organizations", {"name": CREATED_IN_CLERK, "created_by": scene.user_id})
    scene.listed = scene.list_tenants(sync="synced")
    first = scene.listed[0] if scene.listed else None
    scene.verify(
        first is not None and first["id"] == scene.created["id"] and first["isPrimary"],
        f"the primary comes first: tenant {scene.created['id']}, created in step 1",
        first,
    )
    scene.verify_in_sync_with_clerk(scene.listed)
    is_listed = named(scene.listed, CREATED_IN_CLERK) is not None
    scene.verify(is_listed, f'"{CREATED_IN_CLERK}" is in the list', scene.listed)


def show_legacy_tenant(scene: Scene) -> None:
    """The list contains a legacy tenant (`clerk_org_id` is NULL) beside the linked tenants."""
    legacy = legacy_tenant(LEGACY, {scene.user_id: LEGACY_ROLE})
    scene.report.line(f"   tenant {legacy.pk} has NULL in clerk_org_id, and the user as its {LEGACY_ROLE}")
    scene.listed = scene.list_tenants(sync="synced")
    shown = next((tenant for tenant in scene.listed if tenant["id"] == legacy.pk), None)
    scene.verify(
        shown is not None and shown["clerkOrgId"] is None and shown["role"] == LEGACY_ROLE,
        "the sync did not change it: no clerkOrgId, its own role",
        shown,
    )
    scene.verify_in_sync_with_clerk(scene.listed)


def open_pages(scene: Scene) -> None:
    """The API documentation, the admin and the page of the local Clerk open."""
    for page in (f"{scene.url}/api/v1/docs", f"{scene.url}/admin/login/", scene.sandbox_url):
        answer = scene.api.get(page)
        scene.verify(answer.status_code == HTTPStatus.OK, f"GET {page}", answer.text)
