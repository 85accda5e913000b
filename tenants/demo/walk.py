"""The walk: what a client of this project does, one step after the other, each answer verified.

A step that follows from another uses what that one left in the scene. To add one, write a function
of the scene and put it into STEPS.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tenants.demo.environment import SETTINGS
from tenants.demo.exceptions import StepFailed
from tenants.demo.http import SYNC_HEADER, Answer, HttpClient, shortened
from tenants.demo.report import Report
from tenants.demo.servers import LocalClerk
from tenants.models import Membership, Tenant
from tenants.services import TenantService

Json = dict[str, Any]

CREATE = "/api/v1/tenants/create"
MINE = "/api/v1/tenants/me/get-tenants"

CREATED_HERE = "Created through the API"
CREATED_IN_CLERK = "Created in Clerk"
CREATED_LATE = "Created while Clerk is down"
LEGACY = "From before Clerk"

ADMIN_ROLE = "org:admin"
LEGACY_ROLE = "owner"

DEADLINE_SECONDS = float(SETTINGS["CLERK_TIMEOUT_SECONDS"])
OVERHEAD_SECONDS = 3.0
"""What a request may take beside waiting for Clerk, on a machine that is busy with other things."""

SETTLE_SECONDS = 10.0
SHOWN_FIELDS = ("id", "name", "clerkOrgId", "role", "isPrimary")


@dataclass
class Scene:
    """Where the steps act, and what they leave for each other."""

    report: Report
    api: HttpClient
    """Our REST API, as the user."""
    clerk: HttpClient
    """Clerk's Backend API, with the secret key."""
    control: HttpClient
    """The sandbox's own control API."""
    sandbox: LocalClerk
    user_id: str
    created: Json = field(default_factory=dict)
    """The tenant that was created through the API."""
    listed: list[Json] = field(default_factory=list)
    """The last list that rests on Clerk, and the legacy tenant."""

    def verify(self, holds: bool, claim: str, found: object) -> None:
        """Print the claim as verified; raise StepFailed with what was found when it does not hold."""
        if not holds:
            self.report.failed(claim)
            raise StepFailed(f"Not so: {claim}. Found: {shortened(found)}")
        self.report.verified(claim)

    def ask_clerk(self, path: str) -> Any:
        """Return a record of Clerk's, asked with the secret key; raise StepFailed when it has none."""
        return self.clerk.call("GET", path).require_ok().body

    def list_tenants(self, query: str = "") -> Answer:
        """List the user's tenants and print what tells them apart; raise StepFailed unless it is a 200."""
        answer = self.api.call("GET", f"{MINE}{query}")
        self.report.call(str(answer))
        answer.require_ok()
        self.report.records({name: tenant[name] for name in SHOWN_FIELDS} for tenant in answer.body)
        return answer


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
    role = _roles_in_clerk(scene).get(organization_id)
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
    _verify_sync(scene, answer, "synced")
    first = scene.listed[0] if scene.listed else None
    scene.verify(
        first is not None and first["id"] == scene.created["id"] and first["isPrimary"],
        f"first comes the primary: tenant {scene.created['id']}, created above",
        first,
    )
    _verify_level_with_clerk(scene, answer.body)
    scene.verify(CREATED_IN_CLERK in _names(answer.body), "the one made in Clerk is there", answer.body)


def show_legacy_tenant(scene: Scene) -> None:
    """A tenant from before Clerk (`clerk_org_id` is NULL) stands beside the linked ones."""
    legacy = _legacy_tenant(scene.user_id)
    scene.report.line(f"   tenant {legacy.pk} has NULL in clerk_org_id, and the user as its {LEGACY_ROLE}")
    answer = scene.list_tenants()
    _verify_sync(scene, answer, "synced")
    shown = next((tenant for tenant in answer.body if tenant["id"] == legacy.pk), None)
    scene.verify(
        shown is not None and shown["clerkOrgId"] is None and shown["role"] == LEGACY_ROLE,
        "the sync has left it alone: no clerkOrgId, its own role",
        shown,
    )
    _verify_level_with_clerk(scene, answer.body)
    scene.listed = answer.body


def list_while_clerk_is_down(scene: Scene) -> None:
    """With Clerk frozen, its port open and nobody answering, the local rows are served in time."""
    with scene.sandbox.process.frozen():
        answer = scene.list_tenants()
    _verify_sync(scene, answer, "stale")
    scene.verify(
        answer.seconds < DEADLINE_SECONDS + OVERHEAD_SECONDS,
        f"Clerk's deadline of {DEADLINE_SECONDS:g} s is kept",
        f"{answer.seconds:.1f} s",
    )
    scene.verify(_ids(answer.body) == _ids(scene.listed), "the tenants are those of before", answer.body)


def create_while_clerk_is_down(scene: Scene) -> None:
    """A create fails loudly and leaves no tenant."""
    with scene.sandbox.process.frozen():
        answer = scene.api.call("POST", CREATE, {"name": CREATED_LATE})
        scene.report.call(str(answer))
        scene.report.records([answer.body])
        scene.verify(
            answer.status == HTTPStatus.INTERNAL_SERVER_ERROR
            and answer.body["errors"][0]["detail"].startswith("Failed to create organization"),
            "the answer is 500, Failed to create organization",
            answer.body,
        )
        left = scene.list_tenants("?sync_from_clerk=false")
    _verify_sync(scene, left, "skipped")
    scene.verify(_ids(left.body) == _ids(scene.listed), "no tenant is left of it", left.body)


def adopt_what_clerk_did_late(scene: Scene) -> None:
    """Clerk, back again, carries out the create that lay at its door; the next list shows it."""
    posts = _settled_posts(scene)
    for post in posts:
        scene.report.call(f"Clerk, once it runs again: POST {post['path']} -> {post['status']}")
    scene.verify(len(posts) == 1, "the create was sent to Clerk exactly once", posts)
    answer = scene.list_tenants()
    _verify_sync(scene, answer, "synced")
    _verify_level_with_clerk(scene, answer.body)
    late = next((tenant for tenant in answer.body if tenant["name"] == CREATED_LATE), None)
    scene.verify(
        late is not None and late["role"] == ADMIN_ROLE,
        f"what Clerk has created late is adopted, the caller as its {ADMIN_ROLE}",
        answer.body,
    )


def open_pages(scene: Scene) -> None:
    """The pages to look at are there."""
    for client, path in ((scene.api, "/api/v1/docs"), (scene.api, "/admin/login/"), (scene.control, "")):
        answer = client.call("GET", path)
        page = path or "/sandbox, of the local Clerk"
        scene.verify(answer.status == HTTPStatus.OK, f"GET {page}", answer.body)


@dataclass(frozen=True)
class Step:
    """A part of the walk; `act` raises StepFailed unless all that it claims was verified."""

    title: str
    act: Callable[[Scene], None]


STEPS = (
    Step("Create a tenant: in Clerk first, then here", create_tenant),
    Step("List the tenants, brought level with Clerk first", list_with_sync),
    Step("A legacy tenant beside them", show_legacy_tenant),
    Step("Clerk is down: list", list_while_clerk_is_down),
    Step("Clerk is down: create", create_while_clerk_is_down),
    Step("Clerk is back", adopt_what_clerk_did_late),
    Step("The pages", open_pages),
)


def walk(scene: Scene) -> None:
    """Take every step; raise StepFailed, naming the step, at the first that does not hold."""
    for number, step in enumerate(STEPS, start=1):
        scene.report.heading(f"{number}. {step.title}")
        try:
            step.act(scene)
        except StepFailed as failure:
            raise StepFailed(f"Step {number} failed ({step.title}). {failure}") from failure
        except (LookupError, TypeError) as error:
            raise StepFailed(f"Step {number} failed ({step.title}): an answer lacks {error}.") from error
    scene.report.heading(f"All {len(STEPS)} steps held.")


def _verify_sync(scene: Scene, answer: Answer, expected: str) -> None:
    found = answer.headers.get(SYNC_HEADER)
    scene.verify(found == expected, f"{SYNC_HEADER} is {expected}", found)


def _verify_level_with_clerk(scene: Scene, tenants: list[Json]) -> None:
    here = {tenant["clerkOrgId"]: tenant["role"] for tenant in tenants if tenant["clerkOrgId"]}
    in_clerk = _roles_in_clerk(scene)
    scene.verify(
        here == in_clerk,
        f"the linked tenants and roles are those of GET /v1/users/{scene.user_id}/organization_memberships",
        {"here": here, "in Clerk": in_clerk},
    )


def _roles_in_clerk(scene: Scene) -> dict[str, str]:
    """Return the user's roles by organization, as Clerk has them."""
    memberships = scene.ask_clerk(f"/users/{scene.user_id}/organization_memberships?limit=500")["data"]
    return {membership["organization"]["id"]: membership["role"] for membership in memberships}


def _legacy_tenant(clerk_user_id: str) -> Tenant:
    """Return the legacy tenant of an earlier start, or make it as before there was Clerk."""
    tenant = Tenant.objects.filter(clerk_org_id=None, name=LEGACY).first()
    if tenant is None:
        with warnings.catch_warnings():
            # Deprecated for new tenants; this one is to be of the old kind.
            warnings.simplefilter("ignore", DeprecationWarning)
            tenant = TenantService.create_tenant({"name": LEGACY})
    Membership.objects.get_or_create(
        tenant=tenant, clerk_user_id=clerk_user_id, defaults={"role": LEGACY_ROLE}
    )
    return tenant


def _settled_posts(scene: Scene) -> list[Json]:
    """Return the creates that Clerk got while it was frozen, once it has dealt with them."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        calls = scene.control.call("GET", "/requests").body
        posts = [call for call in calls if call["method"] == "POST" and _asks_for(call["body"], CREATED_LATE)]
        if (posts and all(call["status"] for call in posts)) or time.monotonic() > deadline:
            return posts
        time.sleep(0.05)


def _asks_for(body: Any, name: str) -> bool:
    return isinstance(body, dict) and body.get("name") == name


def _ids(tenants: list[Json]) -> list[int]:
    return [tenant["id"] for tenant in tenants]


def _names(tenants: list[Json]) -> set[str]:
    return {tenant["name"] for tenant in tenants}
