"""Let Clerk hang, rate limit, reset or refuse, and measure what the users of the web server notice.

    uv run python -m tests.chaos.hanging_clerk [--fault hang] [--seconds 60] [--clients 40]

Starts the local Clerk, and gunicorn with `config.gunicorn` (2 workers x 4 threads) on a database of its own.
A quarter of the clients each asks `/healthz`, `primary-id` and `get-tenants`, and sends webhooks, about once
a second. For every fault: `--seconds` with it, and after it the time until every list says `synced` again.
The exit code is 0 if all figures are within their limits.
"""

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

import django

import tests.environment  # noqa: F401  (before Django reads its settings)
from tests.sandbox import SandboxControl

START_SECONDS = 60.0
"""How long the first lists, which fill the mirror, may take."""

OPENED_AFTER = 6.0
"""Seconds of a fault after which breakers are open: the deadline of a call to Clerk, and one more."""

RETURN_SECONDS = 30.0
FOREVER = 1_000_000
FAULTS: dict[str, dict[str, Any]] = {
    "hang": {"timeoutSeconds": 3600},
    "rate-limit": {"rateLimit": 2},
    "reset": {"reset": True},
    "error": {"status": 503},
    "refuse": {},
}
LIMITS_MS = {"healthz": 200.0, "primary-id": 200.0, "webhook": 500.0, "list": 300.0}
SYNCED_LIMIT = 10.0

Request = tuple[str, str, bytes, dict[str, str]]
"""Method, path, body and headers."""


@dataclass
class Sample:
    """One request of a client: when it began (monotonic), how long it took, and what came."""

    began: float
    seconds: float
    status: int
    sync: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the server answered with success."""
        return 200 <= self.status < 300


@dataclass
class Clients:
    """Threads that send requests, each of one kind, and note what comes."""

    port: int
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    synced: dict[int, float] = field(default_factory=dict)
    """The time of the last `synced` answer of each list client."""
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int, kind: str, build: Callable[[], Request]) -> None:
        """Send requests until the end, with a pause of about a second."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.stopping.wait(random.uniform(0.5, 1.5)):
            method, path, body, headers = build()
            began = time.monotonic()
            status, sync = 0, ""
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                response.read()
                status, sync = response.status, response.headers.get("X-Clerk-Sync", "")
            except (OSError, http.client.HTTPException):
                connection.close()
            if kind == "list" and sync == "synced":
                self.synced[number] = began
            is_first_list = kind == "primary-id" and path.endswith("get-tenants")
            sample = Sample(began, time.monotonic() - began, status, sync)
            self.samples["first list" if is_first_list else kind].append(sample)
        connection.close()


def main() -> int:
    """Print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fault", choices=FAULTS, action="append", default=[])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=40)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    missed = 0
    with _scene(options.clients) as (clients, clerk):
        _await_first_lists(clients, options.clients // 4)
        for fault in options.fault or FAULTS:
            missed += _measure(clients, clerk, fault, options.seconds)
    return int(missed > 0)


@contextmanager
def _scene(count: int) -> Iterator[tuple[Clients, SandboxControl]]:
    from tests.benchmarks._clerk import child_environment, local_clerk
    from tests.benchmarks._database import own_database
    from tests.web_server import web_server

    with own_database(durable=False), local_clerk(organizations=count, users=count, members=3) as clerk:
        environment = child_environment(clerk) | {
            "CLERK_SYNC_MAX_AGE_SECONDS": "1",
            "CLERK_MAX_WAITING": "",
            "CLERK_WEBHOOK_SIGNING_SECRET": clerk.description["webhookSigningSecret"],
        }
        options = ("--workers", "2", "--threads", "4")
        with web_server(*options, output=subprocess.DEVNULL, **environment) as port:
            clients = Clients(port)
            builders = list(_builders(clerk, count))
            threads = [
                threading.Thread(target=clients.run, args=(number, *builder))
                for number, builder in enumerate(builders)
            ]
            for thread in threads:
                thread.start()
            try:
                yield clients, clerk
            finally:
                clients.stopping.set()
                for thread in threads:
                    thread.join()


def _builders(clerk: SandboxControl, count: int) -> Iterator[tuple[str, Callable[[], Request]]]:
    """Yield the kind of each client and the function that builds its requests."""
    from tests.webhooks import PATH, WebhookSender

    sender = WebhookSender(
        secret=clerk.description["webhookSigningSecret"], instance_id=clerk.description["instanceId"]
    )

    def webhook() -> Request:
        body = json.dumps(sender.event()).encode()
        return "POST", PATH, body, {"Content-Type": "application/json", **sender.headers(body)}

    users = [user["id"] for user in clerk.api("GET", "/users", limit=count)]
    for number in range(count):
        match number % 4:
            case 0:
                yield "healthz", lambda: ("GET", "/healthz", b"", {})
            case 1:
                yield "webhook", webhook
            case 2:
                yield "primary-id", _as_user(clerk, users[number], "primary-id")
            case _:
                yield "list", _as_user(clerk, users[number], "get-tenants")


def _as_user(clerk: SandboxControl, user_id: str, name: str) -> Callable[[], Request]:
    headers = {"Authorization": f"Bearer {clerk.token(user_id, expiresIn=3600)}"}
    names = ["get-tenants"] * 4  # Lists make a primary tenant.

    def build() -> Request:
        return "GET", f"/api/v1/tenants/me/{names.pop() if names else name}", b"", headers

    return build


def _measure(clients: Clients, clerk: SandboxControl, fault: str, seconds: float) -> int:
    """Print the figures of one fault; return how many limits were missed."""
    began = time.monotonic()
    if fault == "refuse":
        clerk.outage(seconds)
        time.sleep(seconds)
    else:
        clerk.fault("* /v1/*", times=FOREVER, **FAULTS[fault])
        time.sleep(seconds)
        clerk.clear_faults()
    ended = time.monotonic()
    back = _seconds_until_synced(clients, ended)
    missed = 0
    print(f"{fault}, {seconds:.0f} s, load of the machine {os.getloadavg()[0]:.1f}")
    for kind, limit in LIMITS_MS.items():
        since = began + OPENED_AFTER if kind == "list" else began
        found = [one for one in clients.samples[kind] if since <= one.began < ended]
        p95 = quantiles([one.seconds * 1000 for one in found], n=100, method="inclusive")[94]
        refused = Counter(
            one.status for one in clients.samples[kind] if began <= one.began and not one.is_good
        )
        states = Counter(one.sync for one in found if one.sync)
        missed += (p95 > limit) + bool(refused)
        print(
            f"  {kind}: {len(found)} requests, p95 {p95:.0f} ms (limit {limit:.0f}),"
            f" other than 2xx: {dict(refused)}",
            f"{dict(states)}" if states else "",
        )
    missed += back > SYNCED_LIMIT
    print(f"  every list says `synced` again after {back:.1f} s (limit {SYNCED_LIMIT:.0f})", flush=True)
    return missed


def _await_first_lists(clients: Clients, count: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while len(clients.synced) < count or len(clients.samples["primary-id"]) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"Only {len(clients.synced)} of {count} lists were synced at first.")
        time.sleep(0.1)


def _seconds_until_synced(clients: Clients, ended: float) -> float:
    expected = set(clients.synced)
    while time.monotonic() < ended + RETURN_SECONDS:
        if all(clients.synced[number] > ended for number in expected):
            return max(clients.synced.values()) - ended
        time.sleep(0.1)
    return RETURN_SECONDS


if __name__ == "__main__":
    sys.exit(main())
