"""The processes of a demo: a local Clerk, and the web server and the worker that use it."""

import json
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from django.conf import settings
from procrastinate.contrib.django.models import ProcrastinateWorker

from tenants.demo.environment import isolated_environment
from tenants.demo.exceptions import DemoError, StepFailed
from tenants.demo.http import HttpClient
from tenants.demo.processes import POLL_SECONDS, START_SECONDS, Child, Children

HOST = "127.0.0.1"
BACKLOG = 128
WEB_THREADS = 8
GRACEFUL_SECONDS = 3
"""What requests and jobs may still take when all is to stop; less than STOP_SECONDS."""

USERS = 2


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

    @classmethod
    def described_by(cls, process: Child) -> Self:
        """Wait until the sandbox serves; raise DemoError when it does not."""
        described = json.loads(process.first_line())
        return cls(
            process=process,
            api_url=described["apiUrl"],
            secret_key=described["secretKey"],
            jwt_key=described["jwtKey"],
            issuer=described["issuer"],
            instance_id=described["instanceId"],
            webhook_signing_secret=described["webhookSigningSecret"],
        )

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


def start_clerk(children: Children) -> Child:
    """Start `manage.py clerk_sandbox` with two users, on any free port; it keeps its records in memory."""
    command = _manage("clerk_sandbox", "--users", str(USERS))
    return children.start("clerk", command, isolated_environment(SECRET_KEY=secrets.token_urlsafe(32)))


def clients_environment(clerk: LocalClerk, database_url: str) -> dict[str, str]:
    """Return the environment of the processes that use this Clerk and this database."""
    return isolated_environment(
        SECRET_KEY=secrets.token_urlsafe(32), DATABASE_URL=database_url, **clerk.settings()
    )


def start_web(children: Children, listener: socket.socket, environment: Mapping[str, str]) -> Child:
    """Start gunicorn on the reserved socket, which from then on is its own."""
    module, _, application = settings.WSGI_APPLICATION.rpartition(".")
    command = [sys.executable, "-m", "gunicorn", f"{module}:{application}"]
    command += ["--bind", f"fd://{listener.fileno()}", "--no-control-socket", "--log-level", "warning"]
    command += ["--threads", str(WEB_THREADS), "--graceful-timeout", str(GRACEFUL_SECONDS)]
    with listener:
        # Upon SIGINT gunicorn does not wait for browsers that keep a connection open.
        return children.start(
            "web", command, environment, pass_fds=[listener.fileno()], stop_signal=signal.SIGINT
        )


def start_worker(children: Children, environment: Mapping[str, str]) -> Child:
    """Start `manage.py procrastinate worker`; the queue's tables must be there."""
    command = _manage("procrastinate", "worker", "--shutdown-graceful-timeout", str(GRACEFUL_SECONDS))
    return children.start("worker", command, environment)


def run_command(children: Children, environment: Mapping[str, str], *arguments: str) -> str:
    """Run a command of `manage.py` to its end and return what it prints; raise DemoError if it fails."""
    return children.run(arguments[0], _manage(*arguments), environment)


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def wait_until_ready(children: Children, web: HttpClient) -> None:
    """Wait until `/readyz` answers 200 and has looked at Clerk, and a worker is there.

    Raise DemoError when a process is gone, or after a minute.
    By then the web server has loaded Clerk's SDK, which on a slow machine takes a good part of the
    first call's deadline.
    """
    deadline = time.monotonic() + START_SECONDS
    while (state := _unreadiness(web)) is not None:
        children.require_alive()
        if time.monotonic() > deadline:
            raise DemoError(f"Not ready after {START_SECONDS:.0f} s: {state}")
        time.sleep(POLL_SECONDS)


def _unreadiness(web: HttpClient) -> str | None:
    """Return what stands against beginning; None when all is well."""
    try:
        answer = web.call("GET", "/readyz")
    except StepFailed as failure:
        return str(failure)
    is_ready = answer.status == HTTPStatus.OK and answer.body["clerk"] != "unknown"
    if not is_ready:
        return str(answer.body)
    return None if ProcrastinateWorker.objects.exists() else "no worker has begun"
