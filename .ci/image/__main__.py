"""Build the image without a container engine and rehearse a deployment: `uv run python .ci/image`.

Carries out the Dockerfile in a temporary folder, makes the folder read-only, and starts from it what
compose.yaml starts: two migrations at once, web, worker, and the proxy if nginx is installed. They use a
database of the embedded PostgreSQL and a local Clerk, and do not run as root. Asks for /readyz, sends one
webhook, reads one list, and stops everything with SIGTERM. Prints one line per step, and exits with 1 if one
fails.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
import urllib3
import yaml
from deployment import (
    Deployment,
    database,
    local_clerk,
    production_settings,
    python_for,
    start_proxy,
    unprivileged_account,
)
from dockerfile import PROJECT, Image

DEADLINE_SECONDS = 30.0
ORGANIZATIONS = 9
STARTED = time.monotonic()


def say(text: str) -> None:
    """Print a finished step."""
    print(f"{time.monotonic() - STARTED:5.1f} s  {text}", flush=True)


def until(what: str, condition: Callable[[], Any]) -> None:
    """Wait until the condition is true, and say so; raise AssertionError if it takes too long."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_SECONDS:.0f} s"
        time.sleep(0.1)
    say(what)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that every account may enter; remove it, and what is read-only in it."""
    root = Path(tempfile.mkdtemp(prefix="clerk-tenants-image-"))
    root.chmod(0o755)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    try:
        yield root
    finally:
        subprocess.run(["chmod", "-R", "u+w", root], check=True)
        shutil.rmtree(root)


class Client:
    """A client of the deployment, who knows the local Clerk."""

    def __init__(self, address: str, clerk: dict[str, str]) -> None:
        self.address = address
        self.clerk = clerk
        self.http = requests.Session()
        self.http.headers["Host"] = "tenants.example.com"
        self.http.verify = False  # The certificate is made for this run.
        self.http.trust_env = False

    def get(self, path: str, **headers: str) -> requests.Response:
        """Send a GET."""
        return self.http.get(f"{self.address}{path}", headers=headers, timeout=10)

    def is_answered(self) -> bool:
        """Return whether /healthz can be reached."""
        with contextlib.suppress(requests.ConnectionError):
            return self.get("/healthz").ok
        return False

    def list(self) -> requests.Response:
        """List the tenants of the user, who is a member of all of them."""
        body = {"userId": self._clerk("/users")[0]["id"]}
        url = f"{self.clerk['issuer']}/sandbox/session-tokens"
        token = requests.post(url, json=body, timeout=10).json()["jwt"]
        return self.get("/api/v1/tenants/me/get-tenants", Authorization=f"Bearer {token}")

    def rename_by_webhook(self, name: str) -> requests.Response:
        """Send the event of a rename, signed as Clerk signs."""
        organization = self._clerk("/organizations")["data"][0]
        data = {**organization, "name": name, "updated_at": organization["updated_at"] + 1}
        event = {"object": "event", "type": "organization.updated", "data": data}
        event |= {"timestamp": time.time_ns() // 1_000_000, "instance_id": self.clerk["instanceId"]}
        return self.post_webhook(json.dumps(event).encode())

    def post_webhook(self, body: bytes) -> requests.Response:
        """Sign and send a body."""
        sent = f"{time.time():.0f}"
        key = base64.b64decode(self.clerk["webhookSigningSecret"].removeprefix("whsec_"))
        signature = base64.b64encode(
            hmac.digest(key, f"msg_1.{sent}.".encode() + body, hashlib.sha256)
        ).decode()
        headers = {"svix-id": "msg_1", "svix-timestamp": sent, "svix-signature": f"v1,{signature}"}
        headers["Content-Type"] = "application/json"
        url = f"{self.address}/api/v1/webhooks/clerk"
        return self.http.post(url, data=body, headers=headers, timeout=10)

    def _clerk(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.clerk['secretKey']}"}
        return requests.get(f"{self.clerk['apiUrl']}{path}", headers=headers, timeout=10).json()


def start(deployment: Deployment, services: dict[str, Any]) -> None:
    """Migrate by two processes at once, then start web and worker."""
    for name in ("migrate-1", "migrate-2"):
        deployment.start(name, services["migrate"]["command"])
    ended = deployment.finish("migrate-1", "migrate-2")
    assert set(ended.values()) == {0}, ended
    assert deployment.output().count("Applying tenants.0001_initial") == 1
    say("two migrations at once: one migrated, the other waited")
    deployment.start("web", deployment.image.command)
    deployment.start("worker", services["worker"]["command"])
    until("the health check of the image succeeds", deployment.is_healthy)


def check(client: Client) -> None:
    """Use the deployment as its clients do."""
    until("/readyz says ready", lambda: client.get("/readyz").json()["status"] == "ready")
    page = client.get("/admin/login/")
    assert page.status_code == 200, page.status_code
    stylesheet = client.get("/static/unfold/css/styles.css")
    assert (stylesheet.status_code, "css" in stylesheet.headers["Content-Type"]) == (200, True)
    if client.address.startswith("https"):
        assert page.headers["Strict-Transport-Security"] == "max-age=3600"
    listed = client.list()
    assert listed.headers["X-Clerk-Sync"] == "synced", listed.headers
    assert len(listed.json()) == ORGANIZATIONS, listed.text
    say(f"a page, its stylesheet, and a list of {ORGANIZATIONS} tenants")
    assert client.post_webhook(b"x" * 2_000_000).status_code == 413
    assert client.rename_by_webhook("Renamed by webhook").status_code == 204
    until("the worker has processed a webhook", lambda: "Renamed by webhook" in client.list().text)


def main() -> None:
    """Build, start, check and stop."""
    urllib3.disable_warnings()
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    with contextlib.ExitStack() as stack:
        account = unprivileged_account()
        image = Image(stack.enter_context(folder()), python_for(account))
        image.build()
        subprocess.run(["chmod", "-R", "a-w", *map(image.place, ("/app", "/venv"))], check=True)
        say(f"every instruction of the Dockerfile, with {image.python}; then made read-only")
        size = ("--organizations", str(ORGANIZATIONS), "--users", "1", "--memberships-per-organization", "1")
        clerk = stack.enter_context(local_clerk(*size))
        url = stack.enter_context(database())
        deployment = Deployment(image, production_settings(clerk, url), account)
        try:
            start(deployment, services)
            proxy = start_proxy(deployment)
            say("the proxy has started" if proxy else "skipped: the proxy, because nginx is not installed")
            client = Client(proxy or f"http://127.0.0.1:{deployment.port}", clerk)
            until("/healthz answers", client.is_answered)
            check(client)
            ended = deployment.stop()
            assert not any(ended.values()), f"exit codes after {image.stop_signal}: {ended}"
            say(f"{image.stop_signal}: {', '.join(ended)} ended with 0")
            assert "Traceback" not in deployment.output()
        except BaseException:
            deployment.kill()
            print(deployment.output(), file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
