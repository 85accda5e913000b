"""Control of the local Clerk by the tests, over HTTP as by any other client."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from standardwebhooks import Webhook

if TYPE_CHECKING:
    from clerk_backend_api import Clerk

Json = dict[str, Any]


@contextmanager
def official_sdk(
    description: Mapping[str, str],
    *,
    on_request: Callable[[httpx.Request], None] | None = None,
    on_response: Callable[[httpx.Response], None] | None = None,
) -> Iterator["Clerk"]:
    """Clerk's own SDK without retries, with hooks that see what goes over the wire."""
    from clerk_backend_api import Clerk  # half a second, which only the sandbox's own tests need

    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [on_request] if on_request else [],
        "response": [on_response] if on_response else [],
    }
    with httpx.Client(event_hooks=hooks, trust_env=False, verify=False, timeout=30) as http:
        yield Clerk(
            bearer_auth=description["secretKey"],
            server_url=description["apiUrl"],
            client=http,
            async_client=httpx.AsyncClient(verify=False),
            retry_config=None,
        )


class SandboxControl:
    """Calls of the sandbox's control API; `clerk_integration/sandbox/control.py` lists them all.

    `organization`, `membership` and `api` act like a person in Clerk's dashboard: they obey Clerk's
    rules, but are not in `requests()`, need no key and meet no fault, delay or rate limit.
    """

    def __init__(self, description: Mapping[str, str]) -> None:
        self.description = description
        self.url = description["issuer"]
        self._http = httpx.Client(base_url=f"{self.url}/sandbox", timeout=30, trust_env=False, verify=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def backend_client(self) -> httpx.Client:
        """Return a client with the secret key, for calls such as `/v1/organizations`."""
        headers = {"Authorization": f"Bearer {self.description['secretKey']}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False, verify=False)

    def user(self, user_id: str | None = None, **fields: Any) -> Json:
        """Create a user (`firstName`, `emailAddress`, ...) and return it in Clerk's shape."""
        return dict(self._call("POST", "users", {"id": user_id, **fields}))

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
        return self._call(method, f"v1{path}", body, **query)

    def token(self, user_id: str, organization_id: str | None = None, **variant: Any) -> str:
        """Return a session token.

        `variant` (session, v1, template, oauth, machine), `signature` (valid, forged, none),
        `expiresIn` in seconds, `claims` and `header` (laid over the rest, None removes) change it.
        """
        body = {"userId": user_id, "organizationId": organization_id, **variant}
        return str(self._call("POST", "session-tokens", body)["jwt"])

    def fault(self, match: str, *, times: int = 1, **kind: Any) -> None:
        """Let the next requests that match (`POST /v1/organizations`, * is a wildcard) meet a fault.

        Kinds: `status`, `body` (with `contentType`), `rateLimit`, `reset`, `timeoutSeconds`,
        `dropAfterCommit`, `patch`, `then`; see `clerk_integration.sandbox.faults.Fault`.
        """
        self._call("POST", "faults", {"match": match, "times": times, **kind})

    def after_each(
        self, match: str, method: str, path: str, body: Json | None = None, *, times: int = 1
    ) -> None:
        """Make a call, as by hand in the dashboard, after each of the next replies that match."""
        self.fault(match, times=times, then={"method": method, "path": f"/v1{path}", "body": body or {}})

    def outage(self, seconds: float) -> None:
        """Refuse connections for so many seconds, and end the open ones."""
        self._call("POST", "outages", {"seconds": seconds})

    def use_instance(self, name: str = "") -> Json:
        """Serve another instance at the same address and return its description; "" is the first.

        It is made, empty and with keys of its own, when the name is new. `reset` returns to the first.
        """
        return dict(self._call("POST", "instances", {"name": name}))

    def clear_faults(self) -> None:
        """Remove all faults that wait."""
        self._call("DELETE", "faults")

    def requests(self, method: str | None = None, path: str | None = None) -> list[Json]:
        """Return the calls of Clerk's API, oldest first: method, path, query, status, body."""
        calls: list[Json] = self._call("GET", "requests")
        return [call for call in calls if method in {None, call["method"]} and path in {None, call["path"]}]

    def clear_requests(self) -> None:
        """Forget the calls."""
        self._call("DELETE", "requests")

    def settings(self, **changes: Any) -> None:
        """Change `slugs`, `nullSlugs`, `membershipRequired`, `organizationQuota`, `latencyMs`, ..."""
        self._call("POST", "settings", changes)

    def organization_settings(self, **changes: Any) -> Json:
        """Change Clerk's organization settings: `enabled`, `max_allowed_memberships`, ..."""
        return dict(self.api("PATCH", "/instance/organization_settings", changes))

    def patch_record(self, record_id: str, *, remove: tuple[str, ...] = (), **changes: Any) -> None:
        """Serve a record with JSON that Clerk's rules would not allow: `slug=None`, fields removed."""
        self._call("POST", "records", {"id": record_id, "set": changes, "remove": list(remove)})

    def replace_record(self, record_id: str, text: str) -> None:
        """Serve this JSON text in a record's place, to the letter."""
        self._call("POST", "records", {"id": record_id, "text": text})

    def delete_user(self, user_id: str) -> None:
        """Delete a user with all their memberships."""
        self.api("DELETE", f"/users/{user_id}")

    def webhooks(self, **changes: Any) -> Json:
        """Change what befalls webhooks and return their options and `counts`.

        `url`, `paused`, `duplicate`, `shuffle`, `drop`, `cascades`, `retryScale`, `timestampUnit`,
        `rotateSecret`; without any, only look.
        """
        return dict(self._call("POST", "webhooks", changes))

    def messages(self) -> list[Json]:
        """Return the webhooks that were queued or sent, oldest first: `id`, `type`, `status`, `body`."""
        return list(self._call("GET", "webhooks/messages"))

    def clear_messages(self) -> None:
        """Forget the webhooks, also those that were not sent yet."""
        self._call("DELETE", "webhooks/messages")

    def replay(self, message_id: str) -> None:
        """Send one webhook again."""
        self._call("POST", "webhooks/replay", {"id": message_id})

    def content(self, message: Json) -> bytes:
        """Return the body of one of `messages()` as the sandbox would send it."""
        return json.dumps(message["body"], separators=(",", ":")).encode()

    def sign(self, message: Json, *, at: float | None = None) -> dict[str, str]:
        """Return the headers for posting `content(message)`, signed now or `at` (seconds since 1970)."""
        moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
        webhook = Webhook(self.description["webhookSigningSecret"])
        return {
            "content-type": "application/json",
            "svix-id": message["id"],
            "svix-timestamp": str(int(moment.timestamp())),
            "svix-signature": webhook.sign(message["id"], moment, self.content(message).decode()),
        }

    def reset(self, **population: int) -> None:
        """Go back to the start, or to `organizations`, `users`, `membershipsPerOrganization`, `seed`."""
        self._call("POST", "reset", dict(population))

    def _call(self, method: str, path: str, body: Json | None = None, **query: Any) -> Any:
        content = None if body is None else json.dumps(body)
        response = self._http.request(method, path, content=content, params=query)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()
