"""Many clients create with one Idempotency-Key while replies, processes and the database are lost."""

import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from django.db import connection

from tenants.models import CreationAttempt, Membership, Tenant
from tenants.services import sync_organization
from tests.children import child_environment
from tests.sandbox import SandboxControl
from tests.web_server import web_server

CLIENTS = 50
AT_MOST_SECONDS = 150.0

LATENCY_MS = 1_000
OUTAGE_SECONDS = 2.0


def create_until_done(port: int, token: Callable[[], str], answers: list[tuple[int, str]]) -> Any:
    """Send the same create again, as a client does, until it succeeds; return the body of the 201."""
    deadline = time.monotonic() + AT_MOST_SECONDS
    while time.monotonic() < deadline:
        headers = {"Authorization": f"Bearer {token()}", "Idempotency-Key": "one-and-only"}
        url = f"http://127.0.0.1:{port}/api/v1/tenants/create"
        try:
            response = httpx.post(url, json={"name": "Acme"}, headers=headers, timeout=40, trust_env=False)
        except httpx.TransportError as failure:
            answers.append((0, type(failure).__name__))
            time.sleep(0.5)
            continue
        if response.status_code == 201:
            answers.append((201, ""))
            return response.json()
        answers.append((response.status_code, response.json()["errors"][0]["code"]))
        time.sleep(min(float(response.headers.get("Retry-After", 1)), 5.0))
    raise AssertionError(f"no success within {AT_MOST_SECONDS:.0f} s: {answers[-5:]}")


def kill_workers() -> None:
    """End all worker processes of the web server by SIGKILL; its master starts others."""
    me = psutil.Process()
    for child in me.children(recursive=True):
        if child.ppid() != me.pid and any("gunicorn" in part for part in child.cmdline()):
            child.kill()


def restart_database() -> None:
    """End all connections to the database and refuse new ones for a time, as a restart does."""
    parameters = connection.get_connection_params()
    name = parameters["dbname"]
    where = {key: parameters[key] for key in ("user", "host", "port", "password") if key in parameters}
    with psycopg.connect(dbname="postgres", autocommit=True, **where) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        time.sleep(OUTAGE_SECONDS)
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


DISTURBANCES: dict[str, Callable[[], None]] = {
    "reply lost": lambda: None,  # by a fault of the sandbox
    "workers killed": kill_workers,
    "database restarted": restart_database,
}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("disturbance", list(DISTURBANCES))
def test_create_50_times_with_one_key_under_disturbance_creates_one_tenant(
    sandbox: SandboxControl, disturbance: str
) -> None:
    user = sandbox.user()["id"]
    environment = child_environment(sandbox.description) | {
        "CLERK_JWT_KEY": sandbox.description["jwtKey"],
        "CLERK_ISSUER": sandbox.description["issuer"],
    }
    if disturbance == "reply lost":
        sandbox.fault("POST /v1/organizations", dropAfterCommit=True)
    sandbox.settings(latencyMs=LATENCY_MS)
    answers: list[tuple[int, str]] = []
    connection.close()

    options = ("--workers", "2", "--threads", "8")
    with (
        web_server(*options, output=subprocess.DEVNULL, **environment) as port,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        # The POST to Clerk is on its way when the disturbance comes.
        disturb = threading.Timer(2 * LATENCY_MS / 1000, DISTURBANCES[disturbance])
        created = [
            clients.submit(create_until_done, port, lambda: sandbox.token(user), answers)
            for _ in range(CLIENTS)
        ]
        disturb.start()
        bodies = [one.result() for one in created]
        disturb.join()
    sandbox.settings(latencyMs=0)

    assert sandbox.api("GET", "/organizations")["total_count"] == 1
    assert len(sandbox.requests("POST", "/v1/organizations")) == 1
    [tenant] = Tenant.objects.all()
    assert {(body["id"], body["clerkOrgId"]) for body in bodies} == {(tenant.pk, tenant.clerk_org_id)}
    assert {body["isPrimary"] for body in bodies} == {True}
    # If there is no time left to ask Clerk for the creator's role, it is the least one until the next sync.
    assert {body["role"] for body in bodies} <= {"org:admin", "org:member"}
    sync_organization(str(tenant.clerk_org_id))
    assert Membership.objects.get().role == "org:admin"
    assert (Membership.objects.count(), CreationAttempt.objects.get().state) == (1, "succeeded")
    failures = {status for status, _ in answers} - {201}
    assert failures
    assert failures <= {0, 409, 500, 503}
    assert {code for status, code in answers if status == 409} <= {"idempotency_key_in_use"}
