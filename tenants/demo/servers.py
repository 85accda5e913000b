"""The servers of a demo: a local Clerk, and the web server that uses it."""

import json
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus

from django.conf import settings

from tenants.demo.environment import isolated_environment
from tenants.demo.exceptions import DemoError, StepFailed
from tenants.demo.http import HttpClient
from tenants.demo.processes import POLL_SECONDS, START_SECONDS, Child, Children

HOST = "127.0.0.1"
BACKLOG = 128
WEB_THREADS = 8
GRACEFUL_SECONDS = 3


@dataclass(frozen=True)
class LocalClerk:
    """A running sandbox, as the first line of its output describes it."""

    process: Child
    api_url: str
    secret_key: str
    jwt_key: str
    issuer: str
    instance_id: str
    webhook_signing_secret: str

    @property
    def control_url(self) -> str:
        """The page to look at, and below it what controls the sandbox."""
        return f"{self.issuer}/sandbox"

    def settings(self) -> dict[str, str]:
        """Return the settings of a process that uses this Clerk."""
        return {
            "CLERK_API_URL": self.api_url,
            "CLERK_SECRET_KEY": self.secret_key,
            "CLERK_JWT_KEY": self.jwt_key,
            "CLERK_ISSUER": self.issuer,
            "CLERK_INSTANCE_ID": self.instance_id,
            "CLERK_WEBHOOK_SIGNING_SECRET": self.webhook_signing_secret,
        }


def reserve(port: int) -> socket.socket:
    """Return a listening socket on 127.0.0.1; raise DemoError when the port cannot be had."""
    listener = socket.socket()
    # What a server that has just ended leaves behind does not count as in use.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise DemoError(
            f"Port {port} of {HOST} cannot be used: {error.strerror}. Nothing was started. "
            "Stop what listens there, or choose another port with --port."
        ) from None
    return listener


def start_clerk(children: Children) -> LocalClerk:
    """Start `manage.py clerk_sandbox` with one user, on any free port; it keeps its records in memory."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "clerk_sandbox", "--users", "1"]
    process = children.start("clerk", command, isolated_environment(SECRET_KEY=secrets.token_urlsafe(32)))
    described = json.loads(process.first_line())
    return LocalClerk(
        process=process,
        api_url=described["apiUrl"],
        secret_key=described["secretKey"],
        jwt_key=described["jwtKey"],
        issuer=described["issuer"],
        instance_id=described["instanceId"],
        webhook_signing_secret=described["webhookSigningSecret"],
    )


def start_web(children: Children, listener: socket.socket, clerk: LocalClerk, database_url: str) -> Child:
    """Start gunicorn on the reserved socket, which from then on is its own."""
    environment = isolated_environment(
        SECRET_KEY=secrets.token_urlsafe(32), DATABASE_URL=database_url, **clerk.settings()
    )
    module, _, application = settings.WSGI_APPLICATION.rpartition(".")
    command = [sys.executable, "-m", "gunicorn", f"{module}:{application}"]
    command += ["--bind", f"fd://{listener.fileno()}", "--no-control-socket", "--log-level", "warning"]
    command += ["--threads", str(WEB_THREADS), "--graceful-timeout", str(GRACEFUL_SECONDS)]
    with listener:
        return children.start("web", command, environment, [listener.fileno()])


def wait_until_ready(children: Children, web: HttpClient) -> None:
    """Wait until `/readyz` answers 200 and has looked at Clerk; raise DemoError when it does not.

    By then the web server has loaded Clerk's SDK, which on a slow machine takes a good part of the
    first call's deadline.
    """
    deadline = time.monotonic() + START_SECONDS
    while (state := _unreadiness(web)) is not None:
        children.require_alive()
        if time.monotonic() > deadline:
            raise DemoError(f"The web server is not ready after {START_SECONDS:.0f} s: {state}")
        time.sleep(POLL_SECONDS)


def _unreadiness(web: HttpClient) -> str | None:
    """Return what `/readyz` says against being used; None when all is well."""
    try:
        answer = web.call("GET", "/readyz")
    except StepFailed as failure:
        return str(failure)
    is_ready = answer.status == HTTPStatus.OK and answer.body["clerk"] != "unknown"
    return None if is_ready else str(answer.body)
