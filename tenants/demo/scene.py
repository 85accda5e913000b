"""The objects that the steps of the walk use, and how the steps verify results."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tenants.demo.processes import StepFailed
from tenants.demo.report import SYNC_HEADER, Report, ok, shortened, summary
from tenants.models import Membership, Tenant
from tenants.services import TenantService

Json = dict[str, Any]

CREATE = "/api/v1/tenants/create"
MINE = "/api/v1/tenants/me/get-tenants"
WEBHOOKS = "/api/v1/webhooks/clerk"
WITHOUT_SYNC = "?sync_from_clerk=false"

ADMIN_ROLE = "org:admin"
MEMBER_ROLE = "org:member"
LEGACY_ROLE = "owner"

SHOWN_FIELDS = ("id", "name", "clerkOrgId", "role", "isPrimary")


@dataclass
class Scene:
    """The servers that the steps call, and the results that a step leaves for later steps."""

    report: Report
    url: str
    """The URL of the web server."""
    sandbox_url: str
    """The URL of the local Clerk's page. The paths of its control API begin with this URL."""
    api: httpx.Client
    """Calls our REST API as the user."""
    clerk: httpx.Client
    """Calls Clerk's Backend API with the secret key."""
    frozen_clerk: Callable[[], AbstractContextManager[None]]
    """Suspends the local Clerk for a block."""
    manage: Callable[..., str]
    """Runs a command of manage.py in a process of its own and returns its output."""
    user_id: str
    colleague_id: str
    """The id of another user in Clerk."""
    created: Json = field(default_factory=dict)
    """The tenant that was created through the API."""
    listed: list[Json] = field(default_factory=list)
    """The last complete list."""

    def verify(self, holds: bool, claim: str, found: object) -> None:
        """Print the claim as verified; raise StepFailed with the found value if the claim is false."""
        if not holds:
            raise StepFailed(f"Not so: {claim}. Found: {shortened(found)}")
        self.report.verified(claim)

    def call_clerk(self, method: str, path: str, body: Any = None) -> None:
        """Send a request to Clerk's Backend API and print it; raise StepFailed unless it answers 200."""
        self.report.line(f"   Clerk: {summary(ok(self.clerk.request(method, path, json=body)))}")

    def ask_clerk(self, path: str) -> Any:
        """Return the JSON of a GET of Clerk's Backend API; raise StepFailed unless it answers 200."""
        return ok(self.clerk.get(path)).json()

    def ask_sandbox(self, path: str, body: Any = None) -> Any:
        """Return the JSON of a GET below `sandbox_url`, or of a POST with a body."""
        url = f"{self.sandbox_url}{path}"
        return ok(self.clerk.get(url) if body is None else self.clerk.post(url, json=body)).json()

    def list_tenants(self, query: str = "", *, sync: str) -> list[Json]:
        """List the user's tenants, print them, and verify that X-Clerk-Sync is `sync`."""
        answer = self.api.get(f"{MINE}{query}")
        self.show(answer, sync=sync)
        tenants: list[Json] = answer.json()
        return tenants

    def show(self, answer: httpx.Response, *, sync: str) -> None:
        """Print an answer of the list and its tenants, and verify its status and X-Clerk-Sync."""
        self.report.line(f"   {summary(ok(answer))}")
        self.report.records({name: tenant[name] for name in SHOWN_FIELDS} for tenant in answer.json())
        found = answer.headers.get(SYNC_HEADER)
        self.verify(found == sync, f"{SYNC_HEADER} is {sync}", found)

    def verify_in_sync_with_clerk(self, tenants: list[Json]) -> None:
        """Verify that the linked tenants and the user's roles are the same in Clerk."""
        here = {tenant["clerkOrgId"]: tenant["role"] for tenant in tenants if tenant["clerkOrgId"]}
        in_clerk = self.roles_in_clerk()
        self.verify(
            here == in_clerk,
            f"Clerk has the same: GET /v1/users/{self.user_id}/organization_memberships",
            {"here": here, "in Clerk": in_clerk},
        )

    def roles_in_clerk(self) -> dict[str, str]:
        """Return the user's roles in Clerk, by organization id."""
        memberships = self.ask_clerk(f"/users/{self.user_id}/organization_memberships?limit=500")["data"]
        return {membership["organization"]["id"]: membership["role"] for membership in memberships}


def named(tenants: list[Json], name: str) -> Json | None:
    """Return the first tenant with this name."""
    return next((tenant for tenant in tenants if tenant["name"] == name), None)


def ids(tenants: list[Json]) -> list[int]:
    """Return the ids of the tenants, in their order."""
    return [tenant["id"] for tenant in tenants]


def legacy_tenant(name: str, roles: Mapping[str, str]) -> Tenant:
    """Return the legacy tenant of an earlier demo, or create it with members (user id: role)."""
    tenant = Tenant.objects.filter(clerk_org_id=None, name=name).first()
    if tenant is None:
        with warnings.catch_warnings():
            # Creating a tenant without an organization is deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            tenant = TenantService.create_tenant({"name": name})
    for user_id, role in roles.items():
        Membership.objects.get_or_create(tenant=tenant, clerk_user_id=user_id, defaults={"role": role})
    return tenant
