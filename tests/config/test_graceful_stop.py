"""The web server, asked to stop while it works; `clerk_integration/jobs/test_worker.py` stops workers."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.children import child_environment
from tests.sandbox import SandboxControl
from tests.web_server import web_server
from tests.workers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def test_server_asked_to_stop_answers_the_running_request_first(sandbox: SandboxControl) -> None:
    user = str(sandbox.user()["id"])
    sandbox.organization("Acme", created_by=user)
    environment = child_environment(sandbox.description) | {"CLERK_JWT_KEY": sandbox.description["jwtKey"]}
    headers = {"Authorization": f"Bearer {sandbox.token(user)}"}
    sandbox.settings(latencyMs=800)

    with ThreadPoolExecutor(1) as pool:
        with web_server("--workers", "1", output=subprocess.DEVNULL, **environment) as port:
            url = f"http://127.0.0.1:{port}/api/v1/tenants/me/get-tenants"
            running = pool.submit(httpx.get, url, headers=headers, timeout=20)
            wait_until(lambda: [call for call in sandbox.requests() if "memberships" in call["path"]])
            # Leaving the block sends SIGTERM, and waits for the end of the server.
        answer = running.result()

    assert (answer.status_code, answer.headers["X-Clerk-Sync"]) == (200, "synced")
    assert [tenant["name"] for tenant in answer.json()] == ["Acme"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
