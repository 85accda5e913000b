"""Let Clerk fail in one way for a while, and measure how fast the web server answers meanwhile.

    uv run python -m tests.chaos.failing_clerk [--mode hang] [--clients 40] [--seconds 60]

Starts a local Clerk and gunicorn with `config.gunicorn` (2 workers x 4 threads) on a database of its own.
Every client is another user and sends `/healthz`, `/primary-id`, a webhook and a list of tenants once a
second. Then Clerk returns, and the time until a list says `synced` is measured. The exit code is 0 if every
figure is within its limit and no answer had a status of 500 or more.
"""

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import django
import httpx

import tests.environment  # noqa: F401  (before Django reads its settings)
from tests.sandbox import SandboxControl

FOREVER = 1_000_000
SETTLE_SECONDS = 5.0
"""The first seconds of an outage, in which the breaker may still be closed; lists are measured after them."""

RETURN_LIMIT_SECONDS = 10.0
LIMITS_MS = {"healthz": 200.0, "primary-id": 200.0, "webhook": 500.0, "list": 300.0}

LIST = "/api/v1/tenants/me/get-tenants"

FAULTS: dict[str, dict[str, Any]] = {
    "hang": {"timeoutSeconds": 3600},
    "rate-limit": {"rateLimit": 1},
    "reset": {"reset": True},
    "error": {"status": 503},
}


class Figures:
    """Milliseconds, statuses and failures by kind of request."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, list[float]] = defaultdict(list)
        self.answers: Counter[str] = Counter()
        self.server_errors = 0

    def record(self, kind: str, milliseconds: float, response: httpx.Response | None, measured: bool) -> None:
        """Record one request; `response` is None if there was no answer."""
        if measured:
            self.milliseconds[kind].append(milliseconds)
        status = response.status_code if response is not None else 599
        sync = response.headers.get("X-Clerk-Sync", "") if response is not None else "no answer"
        self.answers[f"{kind} {status} {sync}".strip()] += 1
        self.server_errors += status >= httpx.codes.INTERNAL_SERVER_ERROR

    def report(self) -> bool:
        """Print the figures; return whether all are within their limits."""
        fine = self.server_errors == 0
        for kind, limit in LIMITS_MS.items():
            found = self.milliseconds[kind]
            p50, p95 = (statistics.quantiles(found, n=100, method="inclusive")[q] for q in (49, 94))
            fine = fine and p95 <= limit
            print(
                f"{kind:<10} {len(found):>6} requests  p50 {p50:>7.1f} ms  p95 {p95:>7.1f} ms  "
                f"max {max(found):>7.1f} ms  (limit for p95: {limit:.0f} ms)"
            )
        print(f"answers: {dict(sorted(self.answers.items()))}; of 500 and more: {self.server_errors}")
        return fine


class Clients:
    """Threads that each send all kinds of requests as one user, until `stop`."""

    def __init__(self, url: str, clerk: SandboxControl, tokens: list[str]) -> None:
        self.figures = Figures()
        self._url = url
        self._clerk = clerk
        self._event = clerk.messages()[0]
        self._started = time.monotonic()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(token,)) for token in tokens]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every client finish its request."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _work(self, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=self._url, trust_env=False, timeout=60) as http:
            number = 0
            while not self._stopped.wait(1.0):
                number += 1
                event = {**self._event, "id": f"{self._event['id']}{id(http)}{number}"}
                signed = self._clerk.sign(event)
                self._send("healthz", http, "GET", "/healthz")
                self._send("primary-id", http, "GET", "/api/v1/tenants/me/primary-id", headers=headers)
                content = self._clerk.content(event)
                self._send("webhook", http, "POST", "/api/v1/webhooks/clerk", headers=signed, content=content)
                self._send("list", http, "GET", LIST, headers=headers)

    def _send(self, kind: str, http: httpx.Client, method: str, path: str, **request: Any) -> None:
        started, response = time.monotonic(), None
        with suppress(httpx.HTTPError):
            response = http.request(method, path, **request)
        measured = kind != "list" or started - self._started > SETTLE_SECONDS
        self.figures.record(kind, (time.monotonic() - started) * 1000, response, measured)


@contextmanager
def _web_server(clerk: SandboxControl) -> Iterator[str]:
    from tests.benchmarks._clerk import child_environment
    from tests.web_server import web_server

    environment = {
        **child_environment(clerk),
        "DEBUG": "true",
        "CLERK_JWT_KEY": clerk.description["jwtKey"],
        "CLERK_ISSUER": clerk.description["issuer"],
        "CLERK_WEBHOOK_SIGNING_SECRET": clerk.description["webhookSigningSecret"],
        "CLERK_SYNC_MAX_AGE_SECONDS": "1",
    }
    options = ("--workers", "2", "--threads", "4")
    with web_server(*options, output=subprocess.DEVNULL, **environment) as port:
        yield f"http://127.0.0.1:{port}"


def _begin(clerk: SandboxControl, mode: str, seconds: float) -> None:
    if mode == "refused":
        clerk.outage(seconds)
    else:
        clerk.fault("* /v1/*", times=FOREVER, **FAULTS[mode])


def _seconds_until_synced(url: str, token: str) -> float:
    """Ask for a list every second until it is synced with Clerk."""
    started = time.monotonic()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        while http.get(LIST).headers["X-Clerk-Sync"] != "synced":
            time.sleep(1)
    return time.monotonic() - started


def _measure(mode: str, clients: int, seconds: float) -> bool:
    from tests.benchmarks._clerk import local_clerk

    with local_clerk(organizations=clients, members=1, users=clients) as clerk:
        users = [user["id"] for user in clerk.api("GET", "/users", limit=500)]
        tokens = [clerk.token(user, expiresIn=3600) for user in users]
        clerk.webhooks(paused=True)
        clerk.user()
        with _web_server(clerk) as url:
            for token in tokens:
                httpx.get(f"{url}{LIST}", headers={"Authorization": f"Bearer {token}"}, timeout=60)
            load = Clients(url, clerk, tokens)
            _begin(clerk, mode, seconds)
            time.sleep(seconds)
            load.stop()
            if mode != "refused":
                clerk.clear_faults()
            back = _seconds_until_synced(url, tokens[0])
    print(f"{mode}: {clients} clients, {seconds:g} s")
    fine = load.figures.report()
    print(f"synced {back:.1f} s after Clerk's return (limit: {RETURN_LIMIT_SECONDS:.0f} s)")
    return fine and back <= RETURN_LIMIT_SECONDS


def main() -> int:
    """Print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mode", choices=[*FAULTS, "refused"], default="hang")
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from tests.benchmarks._database import own_database

    with own_database():
        return int(not _measure(options.mode, options.clients, options.seconds))


if __name__ == "__main__":
    sys.exit(main())
