"""The processes of a demo: a local Clerk, and the web server and the worker that use it."""

import json
import secrets
import socket
import sys
from collections.abc import Mapping

import httpx
from django.conf import settings

from tenants.demo.environment import isolated_environment
from tenants.demo.processes import DemoError, Processes

HOST = "127.0.0.1"
BACKLOG = 128
WEB_THREADS = 8
USERS = 2
GRACEFUL_SECONDS = 3
"""How long requests and jobs may continue when the demo stops; shorter than STOP_SECONDS."""

CLERK_SETTINGS = {
    "CLERK_API_URL": "apiUrl",
    "CLERK_SECRET_KEY": "secretKey",
    "CLERK_JWT_KEY": "jwtKey",
    "CLERK_ISSUER": "issuer",
    "CLERK_INSTANCE_ID": "instanceId",
    "CLERK_WEBHOOK_SIGNING_SECRET": "webhookSigningSecret",
}


def reserve_port(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1; raise DemoError if the port cannot be used."""
    listener = socket.socket()
    # Allow a port that is in use only by closed connections of an earlier server (TIME_WAIT).
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise DemoError(
            f"Port {port} of {HOST} cannot be used: {error.strerror}. Nothing was started. "
            "Stop the program that listens there, or choose another port with --port."
        ) from None
    return listener


def manage(*arguments: str) -> list[str]:
    """Return the command line of a command of `manage.py`."""
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def start_clerk(processes: Processes) -> None:
    """Start the local Clerk with two users on a free port. It keeps its records in memory."""
    command = manage("clerk_sandbox", "--users", str(USERS))
    processes.start("clerk", command, isolated_environment(SECRET_KEY=secrets.token_urlsafe(32)))


def clerk_description(processes: Processes) -> dict[str, str]:
    """Wait until the local Clerk serves, and return its URLs and keys."""
    description: dict[str, str] = json.loads(processes.first_line("clerk"))
    return description


def clients_environment(clerk: Mapping[str, str], database_url: str) -> dict[str, str]:
    """Return the environment of the processes that use this Clerk and this database."""
    clerk_settings = {name: clerk[key] for name, key in CLERK_SETTINGS.items()}
    secret_key = secrets.token_urlsafe(32)
    return isolated_environment(SECRET_KEY=secret_key, DATABASE_URL=database_url, **clerk_settings)


def start_web(processes: Processes, listener: socket.socket, environment: Mapping[str, str]) -> None:
    """Start gunicorn on the reserved socket, and close our copy of the socket."""
    module, _, application = settings.WSGI_APPLICATION.rpartition(".")
    command = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", f"{module}:{application}"]
    command += [
        "--workers",
        "1",
        "--bind",
        f"fd://{listener.fileno()}",
        "--no-control-socket",
        "--log-level",
        "warning",
    ]
    command += ["--threads", str(WEB_THREADS), "--graceful-timeout", str(GRACEFUL_SECONDS)]
    with listener:
        processes.start("web", command, environment, pass_fds=[listener.fileno()])


def start_worker(processes: Processes, environment: Mapping[str, str]) -> None:
    """Start a worker; the tables of the queue must exist."""
    command = manage("procrastinate", "worker", "--shutdown-graceful-timeout", str(GRACEFUL_SECONDS))
    processes.start("worker", command, environment)


def wait_until_ready(processes: Processes, client: httpx.Client) -> None:
    """Wait until `/readyz` reports ready, with a worker and with a result from Clerk.

    Then the web server has loaded Clerk's SDK. On a slow machine, loading takes a large part of the deadline
    of the first call. Raise DemoError if a process has ended, or after a minute.
    """

    def is_ready() -> bool:
        try:
            answer = client.get("/readyz")
        except httpx.HTTPError:
            return False
        state = answer.json()
        return bool(state["status"] == "ready" and state["clerk"] != "unknown")

    processes.wait_until(is_ready, "The start of the web server and the worker")
