"""The project under ASGI, served by uvicorn."""

import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest
from django.db import connection

from tests.children import PROJECT, child_environment
from tests.sandbox import SandboxControl
from tests.workers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

CLIENTS = 6
MAX_WAITING = 2
LISTS = "/api/v1/tenants/me/get-tenants"


@contextmanager
def asgi_server(**environment: str) -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "uvicorn", "config.asgi:application"]
        command += ["--fd", str(listener.fileno()), "--log-level", "error"]
        server = subprocess.Popen(
            command, cwd=PROJECT, env=environment, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL
        )
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=address, timeout=30, trust_env=False, verify=False) as http:
            wait_until(lambda: is_alive(http), seconds=60)
            yield http
    finally:
        server.terminate()
        server.wait()


def is_alive(http: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return http.get("/healthz").status_code == 200
    return False


def sessions() -> int:
    """Return how many other clients are connected to the database of the test."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def test_asgi_server_while_clerk_hangs_serves_the_mirror_and_keeps_no_connection(
    sandbox: SandboxControl,
) -> None:
    users = [sandbox.user()["id"] for _ in range(CLIENTS)]
    for user in users:
        sandbox.organization(created_by=user)
    headers = [{"Authorization": f"Bearer {sandbox.token(user, expiresIn=600)}"} for user in users]
    environment = child_environment(sandbox.description) | {
        "CLERK_MAX_WAITING": str(MAX_WAITING),
        "CLERK_TIMEOUT_SECONDS": "1",
        "CLERK_SYNC_MAX_AGE_SECONDS": "0",
    }
    before = sessions()
    with asgi_server(**environment) as http, ThreadPoolExecutor(CLIENTS) as clients:

        def list_all() -> Counter[tuple[int, str, int]]:
            answers = clients.map(lambda token: http.get(LISTS, headers=token), headers)
            return Counter(
                (answer.status_code, answer.headers["X-Clerk-Sync"], len(answer.json())) for answer in answers
            )

        # At first, the import of Clerk's SDK may take longer than the wait for a slot.
        wait_until(lambda: list_all() == {(200, "synced", 1): CLIENTS}, seconds=30)
        sandbox.clear_requests()
        sandbox.fault("* /v1/*", times=1000, timeoutSeconds=3600)

        assert list_all() == {(200, "stale", 1): CLIENTS}
        assert is_alive(http)
        assert 0 < len(sandbox.requests()) <= MAX_WAITING + 1  # one may be a trial
        sandbox.clear_faults()
        time.sleep(2)  # The breaker is open.

        wait_until(lambda: list_all() == {(200, "synced", 1): CLIENTS}, seconds=20)
        # PostgreSQL ends a session shortly after its client has closed the connection.
        wait_until(lambda: sessions() <= before, seconds=5)


def test_asgi_server_answers_a_request_whose_content_type_django_cannot_read(sandbox: SandboxControl) -> None:
    with asgi_server(**child_environment(sandbox.description)) as http:
        answer = http.get("/healthz", headers={"Content-Type": "text/plain; x*=unknown''x"})

    assert answer.status_code == 200
