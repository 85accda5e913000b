"""A steady load: lists, creates that are repeated until they succeed, and changes in Clerk."""

import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.chaos.deployment import Deployment

LIST, CREATE = "/api/v1/tenants/me/get-tenants", "/api/v1/tenants/create"
TOKEN_SECONDS = 7200
KEPT = 60
"""Tenants that the load creates and keeps: it deletes older ones in Clerk, so that lists stay short."""


@dataclass
class Load:
    """Threads that use a deployment until `stop`; each notes the answers it gets."""

    deployment: Deployment
    answers: list[tuple[float, str, int]] = field(default_factory=list)
    """The time (monotonic), the kind and the status of each request; 0: no answer."""
    created: dict[str, str] = field(default_factory=dict)
    """The organization of each create that was answered by 201 and is kept, by its name."""
    tried: list[str] = field(default_factory=list)
    """The names of all creates."""
    writing: threading.Event = field(default_factory=threading.Event)
    """Whether the load creates and changes organizations; it always lists."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start two threads that list, one that creates and one that changes organizations in Clerk."""
        self.writing.set()
        self._users = [user["id"] for user in self.deployment.clerk.api("GET", "/users", limit=100)]
        for work in (self._list, self._list, self._create, self._change):
            thread = threading.Thread(target=work)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the threads. A create that was not answered yet is repeated for up to a minute."""
        self._stopping.set()
        self.writing.set()
        for thread in self._threads:
            thread.join()

    def counts(self, since: float) -> dict[str, dict[int, int]]:
        """Return the number of answers by kind and status since a time."""
        kinds: dict[str, Counter[int]] = {}
        for at, kind, status in self.answers:
            if at >= since:
                kinds.setdefault(kind, Counter())[status] += 1
        return {kind: dict(counter) for kind, counter in kinds.items()}

    def failures(self, since: float, until: float) -> list[tuple[float, str, int]]:
        """Return the requests that were sent in a period and not answered by success."""
        return [one for one in self.answers if since <= one[0] < until and not 200 <= one[2] < 300]

    def _headers(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.deployment.clerk.token(user, expiresIn=TOKEN_SECONDS)}"}

    def _request(
        self, http: httpx.Client, kind: str, method: str, path: str, **options: object
    ) -> httpx.Response | None:
        sent = time.monotonic()
        try:
            response = http.request(method, path, **options)  # type: ignore[arg-type]
        except httpx.HTTPError:
            self.answers.append((sent, kind, 0))
            return None
        self.answers.append((sent, kind, response.status_code))
        return response

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.deployment.url, timeout=30, trust_env=False)

    def _list(self) -> None:
        headers = [self._headers(user) for user in self._users]
        with self._client() as http:
            while not self._stopping.wait(random.uniform(0.05, 0.3)):
                self._request(http, "list", "GET", LIST, headers=random.choice(headers))

    def _create(self) -> None:
        headers = [self._headers(user) for user in self._users]
        with self._client() as http:
            while not self._stopping.wait(random.uniform(0.3, 0.9)):
                self.writing.wait()
                self._create_one(http, random.choice(headers))

    def _create_one(self, http: httpx.Client, headers: dict[str, str]) -> None:
        """Send a create, as a client should: again, with the same key, until it succeeds."""
        name = f"Created {uuid.uuid4()}"
        self.tried.append(name)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            response = self._request(
                http,
                "create",
                "POST",
                CREATE,
                json={"name": name},
                headers={**headers, "Idempotency-Key": name},
            )
            if response is not None and response.status_code == 201:
                self.created[name] = response.json()["clerkOrgId"]
                self._delete_oldest()
                return
            time.sleep(0.5)

    def _delete_oldest(self) -> None:
        """Delete in Clerk what the load does not keep."""
        while len(self.created) > KEPT:
            name = next(iter(self.created))
            try:
                self.deployment.clerk.api("DELETE", f"/organizations/{self.created[name]}")
            except (AssertionError, OSError):
                return  # Another instance answers, or none.
            del self.created[name]

    def _change(self) -> None:
        """Rename organizations, add members and remove members in Clerk, which sends webhooks."""
        clerk = self.deployment.clerk
        added: list[tuple[str, str]] = []
        organizations = [one["id"] for one in clerk.api("GET", "/organizations", limit=20)["data"]]
        while not self._stopping.wait(random.uniform(0.1, 0.5)):
            self.writing.wait()
            organization, user = random.choice(organizations), random.choice(self._users)
            try:
                if random.random() < 0.4:
                    clerk.api("PATCH", f"/organizations/{organization}", {"name": f"Name {random.random()}"})
                elif added and random.random() < 0.5:
                    organization, user = added.pop()
                    clerk.api("DELETE", f"/organizations/{organization}/memberships/{user}")
                else:
                    clerk.membership(organization, user)
                    added.append((organization, user))
            except (AssertionError, OSError):
                continue  # refused by Clerk's rules, or meant for another instance
