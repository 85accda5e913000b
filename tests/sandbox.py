"""Control of the local Clerk by the tests, over HTTP as by any other client."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from standardwebhooks import Webhook

from tenants.testing import ClerkSandbox

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


class SandboxControl(ClerkSandbox):
    """The control of the plugin, and the calls that only this project's own tests need."""

    def backend_client(self) -> httpx.Client:
        """Return a client with the secret key, for calls such as `/v1/organizations`."""
        headers = {"Authorization": f"Bearer {self.description['secretKey']}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False, verify=False)

    def after_each(
        self, match: str, method: str, path: str, body: Json | None = None, *, times: int = 1
    ) -> None:
        """Make a call, as by hand in the dashboard, after each of the next replies that match."""
        self.fault(match, times=times, then={"method": method, "path": f"/v1{path}", "body": body or {}})

    def use_instance(self, name: str = "") -> Json:
        """Serve another instance at the same address and return its description; "" is the first.

        It is made, empty and with keys of its own, when the name is new. `reset` returns to the first.
        """
        return dict(self.call("POST", "instances", {"name": name}))

    def api_key(self, subject: str, **fields: Any) -> Json:
        """Create an API key (`scopes`, `secondsUntilExpiration`) and return it with its `secret`."""
        return dict(self.call("POST", "api-keys", {"subject": subject, **fields}))

    def clear_faults(self) -> None:
        """Remove all faults that wait."""
        self.call("DELETE", "faults")

    def clear_requests(self) -> None:
        """Forget the calls."""
        self.call("DELETE", "requests")

    def settings(self, **changes: Any) -> None:
        """Change `slugs`, `nullSlugs`, `membershipRequired`, `organizationQuota`, `latencyMs`, ..."""
        self.call("POST", "settings", changes)

    def organization_settings(self, **changes: Any) -> Json:
        """Change Clerk's organization settings: `enabled`, `max_allowed_memberships`, ..."""
        return dict(self.api("PATCH", "/instance/organization_settings", changes))

    def patch_record(self, record_id: str, *, remove: tuple[str, ...] = (), **changes: Any) -> None:
        """Serve a record with JSON that Clerk's rules would not allow: `slug=None`, fields removed."""
        self.call("POST", "records", {"id": record_id, "set": changes, "remove": list(remove)})

    def replace_record(self, record_id: str, text: str) -> None:
        """Serve this JSON text in a record's place, to the letter."""
        self.call("POST", "records", {"id": record_id, "text": text})

    def delete_user(self, user_id: str) -> None:
        """Delete a user with all their memberships."""
        self.api("DELETE", f"/users/{user_id}")

    def webhooks(self, **changes: Any) -> Json:
        """Change what befalls webhooks and return their options and `counts`.

        `url`, `paused`, `duplicate`, `shuffle`, `drop`, `cascades`, `retryScale`, `timestampUnit`,
        `rotateSecret`; without any, only look.
        """
        return dict(self.call("POST", "webhooks", changes))

    def messages(self) -> list[Json]:
        """Return the webhooks that were queued or sent, oldest first: `id`, `type`, `status`, `body`."""
        return list(self.call("GET", "webhooks/messages"))

    def clear_messages(self) -> None:
        """Forget the webhooks, also those that were not sent yet."""
        self.call("DELETE", "webhooks/messages")

    def replay(self, message_id: str) -> None:
        """Send one webhook again."""
        self.call("POST", "webhooks/replay", {"id": message_id})

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
