"""What the steps of the walk act upon, and how they verify what comes back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenants.demo.exceptions import StepFailed
from tenants.demo.http import SYNC_HEADER, Answer, HttpClient, shortened
from tenants.demo.report import Report
from tenants.demo.servers import LocalClerk

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
    """Where the steps act, and what they leave for each other."""

    report: Report
    url: str
    """The web server."""
    api: HttpClient
    """Our REST API, as the user."""
    clerk: HttpClient
    """Clerk's Backend API, with the secret key."""
    control: HttpClient
    """The sandbox's own control API."""
    sandbox: LocalClerk
    manage: Callable[..., str]
    """Runs a command of manage.py in a process of its own and returns its output."""
    user_id: str
    colleague_id: str
    """Another user of Clerk."""
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
        self.show(answer)
        return answer

    def show(self, answer: Answer) -> None:
        """Print a list of tenants; raise StepFailed unless it is a 200."""
        self.report.call(str(answer))
        answer.require_ok()
        self.report.records({name: tenant[name] for name in SHOWN_FIELDS} for tenant in answer.body)

    def verify_sync(self, answer: Answer, expected: str) -> None:
        """Verify what a list says of its sync."""
        found = answer.headers.get(SYNC_HEADER)
        self.verify(found == expected, f"{SYNC_HEADER} is {expected}", found)

    def verify_level_with_clerk(self, tenants: list[Json]) -> None:
        """Verify that the linked ones of the tenants, and the user's roles, are those in Clerk."""
        here = {tenant["clerkOrgId"]: tenant["role"] for tenant in tenants if tenant["clerkOrgId"]}
        in_clerk = self.roles_in_clerk()
        path = f"/v1/users/{self.user_id}/organization_memberships"
        self.verify(
            here == in_clerk,
            f"the linked tenants and roles are those of GET {path}",
            {"here": here, "in Clerk": in_clerk},
        )

    def roles_in_clerk(self) -> dict[str, str]:
        """Return the user's roles by organization, as Clerk has them."""
        memberships = self.ask_clerk(f"/users/{self.user_id}/organization_memberships?limit=500")["data"]
        return {membership["organization"]["id"]: membership["role"] for membership in memberships}


def ids(tenants: list[Json]) -> list[int]:
    """Return the ids of the tenants, in their order."""
    return [tenant["id"] for tenant in tenants]


def named(tenants: list[Json], name: str) -> Json | None:
    """Return the first of the tenants with this name."""
    return next((tenant for tenant in tenants if tenant["name"] == name), None)
