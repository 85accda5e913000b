"""A pytest plugin for projects that use tenants: `pytest_plugins = ["tenants.testing"]` in the root conftest.

| fixture | gives |
| --- | --- |
| `clerk_sandbox` | an empty local Clerk, which Django's settings name; its methods act as Clerk's dashboard |
| `clerk_user` | a user of this Clerk |
| `tenant` | a tenant of an organization in which `clerk_user` is an admin; needs a database |
| `session_token` | `session_token(user, organization=None, **claims)` returns a session token |
| `signed_webhook` | `signed_webhook(type, data)` returns the arguments of `client.post` for a webhook |
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection
from select import select
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from standardwebhooks import Webhook

if TYPE_CHECKING:
    from clerk_integration.sandbox.server import SandboxServer
    from tenants.models import Tenant

# Django may not be set up yet when pytest imports a plugin, so the fixtures import what needs it.

Json = dict[str, Any]


class ClerkSandbox:
    """The control of a local Clerk; `clerk_integration/sandbox/control.py` lists all its paths.

    `organization`, `membership` and `api` act as a person in Clerk's dashboard: they obey Clerk's rules, but
    are not in `requests()`, need no key, and meet no fault, delay or rate limit.
    """

    def __init__(self, description: Mapping[str, str]) -> None:
        self.description = description
        self.url = description["issuer"]
        self._idle: list[HTTPConnection] = []

    def close(self) -> None:
        """Close the connections."""
        for connection in self._idle:
            connection.close()

    def user(self, user_id: str | None = None, **fields: Any) -> Json:
        """Create a user (`firstName`, `emailAddress`, ...) and return it in Clerk's shape."""
        return dict(self.call("POST", "users", {"id": user_id, **fields}))

    def organization(
        self, name: str = "Acme", created_by: str | None = None, slug: str | None = None, **fields: Any
    ) -> Json:
        """Create an organization and return it in Clerk's shape."""
        body = {"name": name, "created_by": created_by, "slug": slug, **fields}
        return dict(self.api("POST", "/organizations", body))

    def membership(self, organization_id: str, user_id: str, role: str = "org:member", **fields: Any) -> Json:
        """Make a user a member and return the membership in Clerk's shape."""
        body = {"user_id": user_id, "role": role, **fields}
        return dict(self.api("POST", f"/organizations/{organization_id}/memberships", body))

    def api(self, method: str, path: str, body: Json | None = None, **query: Any) -> Any:
        """Call one of Clerk's own paths, such as `/organizations/org_1`, as the dashboard would."""
        return self.call(method, f"v1{path}", body, **query)

    def token(self, user_id: str, organization_id: str | None = None, **variant: Any) -> str:
        """Return a session token.

        `variant` (session, v1, template, oauth, machine), `signature` (valid, forged, none), `expiresIn` in
        seconds, `claims` and `header` (laid over the rest, None removes) change it.
        """
        body = {"userId": user_id, "organizationId": organization_id, **variant}
        return str(self.call("POST", "session-tokens", body)["jwt"])

    def fault(self, match: str, *, times: int = 1, **kind: Any) -> None:
        """Let the next requests that match (`POST /v1/organizations`, * is a wildcard) meet a fault.

        Kinds: `status`, `body` (with `contentType`), `rateLimit`, `reset`, `timeoutSeconds`,
        `dropAfterCommit`, `patch`, `then`; see `clerk_integration.sandbox.faults.Fault`.
        """
        self.call("POST", "faults", {"match": match, "times": times, **kind})

    def outage(self, seconds: float) -> None:
        """Refuse connections for so many seconds, and end the open ones."""
        self.call("POST", "outages", {"seconds": seconds})

    def requests(self, method: str | None = None, path: str | None = None) -> list[Json]:
        """Return the calls of Clerk's API, oldest first: method, path, query, status, body."""
        calls: list[Json] = self.call("GET", "requests")
        return [call for call in calls if method in {None, call["method"]} and path in {None, call["path"]}]

    def reset(self, **population: int) -> None:
        """Go back to the start, or to `organizations`, `users`, `membershipsPerOrganization`, `seed`."""
        self.call("POST", "reset", dict(population))

    def call(self, method: str, path: str, body: Json | None = None, **query: Any) -> Any:
        """Call a path of the control API and return its JSON; raise AssertionError if it is refused."""
        connection = self._connection()
        target = f"/sandbox/{path}?{urlencode(query, doseq=True)}" if query else f"/sandbox/{path}"
        connection.request(method, target, None if body is None else json.dumps(body))
        response = connection.getresponse()
        content = response.read()
        self._idle.append(connection)
        if response.status != HTTPStatus.OK:
            raise AssertionError(f"{method} {path}: {response.status} {content.decode()}")
        return json.loads(content)

    def _connection(self) -> HTTPConnection:
        """Return an idle connection that the server has not closed, or a new one.

        Tests make thousands of calls, and httpx takes twice as long for each.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.sock and not select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()
        return HTTPConnection(self.url.removeprefix("http://"), timeout=30)


@pytest.fixture(autouse=True)
def _without_tenant() -> Iterator[None]:
    """Let no test inherit the current tenant, or a remembered membership, of another test."""
    from tenants.scoping import context, just_in_time, resolution  # noqa: PLC0415

    yield
    context.forget_scope()
    resolution.forget_memberships()
    just_in_time.forget_unknown()


@pytest.fixture(scope="session")
def clerk_sandbox_server() -> "Iterator[SandboxServer]":
    """The server of the local Clerk, one for all tests; use `clerk_sandbox`, which empties it first."""
    from clerk_integration.sandbox.server import SandboxServer  # noqa: PLC0415

    server = SandboxServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clerk_sandbox(clerk_sandbox_server: "SandboxServer", settings: Any) -> Iterator[ClerkSandbox]:
    """An empty local Clerk, which Django's settings name."""
    from clerk_integration.instance import instance_of_key  # noqa: PLC0415
    from clerk_integration.wire import breaker  # noqa: PLC0415

    description = clerk_sandbox_server.description
    settings.CLERK_SECRET_KEY = description["secretKey"]
    settings.CLERK_API_URL = description["apiUrl"]
    settings.CLERK_JWT_KEY = description["jwtKey"]
    settings.CLERK_ISSUER = description["issuer"]
    settings.CLERK_INSTANCE_ID = description["instanceId"]
    breaker.reset()
    sandbox = ClerkSandbox(description)
    instance_of_key()  # Sent once per process and key; no test shall count this request.
    sandbox.reset()
    yield sandbox
    sandbox.close()


@pytest.fixture
def clerk_user(clerk_sandbox: ClerkSandbox) -> Json:
    """A user in Clerk's shape; the `id` is in `clerk_user["id"]`."""
    return clerk_sandbox.user()


@pytest.fixture
def tenant(db: None, clerk_sandbox: ClerkSandbox, clerk_user: Json) -> "Tenant":
    """A tenant that mirrors an organization in which `clerk_user` is an admin."""
    from tenants.services import sync_organization  # noqa: PLC0415

    organization = clerk_sandbox.organization("Acme", created_by=clerk_user["id"])
    mirrored = sync_organization(organization["id"])
    assert mirrored is not None  # noqa: S101  (the local Clerk has the organization)
    return mirrored


@pytest.fixture
def session_token(clerk_sandbox: ClerkSandbox) -> Callable[..., str]:
    """Return a function that makes session tokens.

    `user` is a user or an id; `organization`, which becomes the active one, a tenant, an organization or an
    id; `claims` are laid over those that Clerk makes.
    """

    def make(user: Json | str, organization: "Tenant | Json | str | None" = None, **claims: Any) -> str:
        return clerk_sandbox.token(str(_id(user)), _id(organization), claims=claims)

    return make


@pytest.fixture
def signed_webhook(clerk_sandbox: ClerkSandbox, settings: Any) -> Callable[[str, Json], Json]:
    """Return a function that makes the arguments of `client.post` for a webhook: `post(url, **arguments)`."""
    secret = clerk_sandbox.description["webhookSigningSecret"]
    settings.CLERK_WEBHOOK_SIGNING_SECRET = [secret]

    def sign(event_type: str, data: Json) -> Json:
        envelope = {
            "object": "event",
            "type": event_type,
            "timestamp": time.time_ns() // 1_000_000,
            "instance_id": clerk_sandbox.description["instanceId"],
            "data": data,
        }
        body, message_id, now = json.dumps(envelope), f"msg_{secrets.token_hex(12)}", datetime.now(UTC)
        headers = {
            "svix-id": message_id,
            "svix-timestamp": str(int(now.timestamp())),
            "svix-signature": Webhook(secret).sign(message_id, now, body),
        }
        return {"data": body, "content_type": "application/json", "headers": headers}

    return sign


def _id(record: Any) -> str | None:
    """Return the id of a record in Clerk's shape or of a tenant; return an id, or None, as it is."""
    clerk_id = record["id"] if isinstance(record, Mapping) else getattr(record, "clerk_org_id", record)
    return None if clerk_id is None else str(clerk_id)
