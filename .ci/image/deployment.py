"""The processes of an image, and what a deployment needs around it: database, Clerk, settings, proxy."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
from dockerfile import PROJECT, Image

sys.path.insert(0, str(PROJECT))

from config.embedded_postgres.server import embedded_postgres

STOP_SECONDS = 25.0
REHEARSED_SETTINGS = """
from config.settings import *

# In production, a Clerk on this machine is an error.
SILENCED_SYSTEM_CHECKS = ["clerk.E005"]
"""
OF_THE_DATABASE = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Deployment:
    """The running processes of the image."""

    def __init__(self, image: Image, env: dict[str, str], account: dict[str, Any]) -> None:
        self.image = image
        (image.root / "rehearsed_settings.py").write_text(REHEARSED_SETTINGS)
        rehearsed = {"DJANGO_SETTINGS_MODULE": "rehearsed_settings", "PYTHONPATH": str(image.root)}
        self.env = {**image.env, **env, **rehearsed, "TMPDIR": f"{image.root}/tmp"}
        self.port = free_port()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._account = account

    def start(self, name: str, command: list[str]) -> None:
        """Start a process in the image, as an account that is not root."""
        with self._log(name).open("wb") as log:
            self._running[name] = self._popen(command, stdout=log, stderr=log)

    def is_healthy(self) -> bool:
        """Return whether the health check of the image succeeds."""
        process = self._popen(self.image.healthcheck, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return process.wait() == 0

    def finish(self, *names: str) -> dict[str, int]:
        """Wait for processes that end, and return their exit codes."""
        return {name: self._running.pop(name).wait(STOP_SECONDS) for name in names}

    def stop(self) -> dict[str, int]:
        """Send the image's stop signal to all processes at once, and return their exit codes."""
        for process in self._running.values():
            process.send_signal(signal.Signals[self.image.stop_signal])
        return self.finish(*self._running)

    def kill(self) -> None:
        """End what a failure has left."""
        for process in self._running.values():
            process.terminate()  # SIGKILL would leave the children of nginx and gunicorn behind.
            process.wait()

    def output(self) -> str:
        """Return what all processes have printed."""
        logs = [*sorted(self.image.root.glob("*.log")), *self.image.root.glob("tmp/std*")]
        return "\n".join(f"--- {log.name}\n{log.read_text()}" for log in logs)

    def _popen(self, command: list[str], **output: Any) -> "subprocess.Popen[bytes]":
        parts = [self.image.place(part) for part in command]
        parts = [re.sub(r"(0\.0\.0\.0|127\.0\.0\.1):8000", f"127.0.0.1:{self.port}", part) for part in parts]
        parts[0] = shutil.which(parts[0], path=self.env["PATH"]) or parts[0]
        return subprocess.Popen(
            parts, cwd=self.image.workdir, env=self.env, stdin=subprocess.DEVNULL, **output, **self._account
        )

    def _log(self, name: str) -> Path:
        return self.image.root / f"{name}.log"


def unprivileged_account() -> dict[str, Any]:
    """Return the account that may connect to the embedded PostgreSQL, as options of `subprocess`."""
    if os.geteuid() != 0:
        return {}
    server = embedded_postgres(PROJECT)
    server.ensure()
    owner = server.location.socket_dir.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def python_for(account: dict[str, Any]) -> Path:
    """Return a Python that the account can run: root's own may be in a directory that others cannot enter."""
    for folder in [*os.environ["PATH"].split(":"), "/usr/bin"]:
        python = Path(folder, "python3")
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            if (
                subprocess.run([python, "-c", "import ensurepip"], cwd="/", check=False, **account).returncode
                == 0
            ):
                return python
    sys.exit("no python3 that an account other than root can run was found; install Debian's python3-venv")


@contextlib.contextmanager
def database() -> Iterator[str]:
    """Give the URL of an empty database."""
    server = embedded_postgres(PROJECT)
    server.ensure()
    where = {"host": str(server.location.socket_dir), "port": str(server.location.port)}
    user, name = server.location.user, f"image_{os.getpid()}"
    with psycopg.connect(dbname="postgres", user=user, autocommit=True, **where) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield f"postgres://{user}@/{name}?{urlencode(where)}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def local_clerk(*options: str) -> Iterator[dict[str, str]]:
    """Give the description of a local Clerk."""
    command = [sys.executable, "manage.py", "clerk_sandbox", *options]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def production_settings(clerk: dict[str, str], database_url: str) -> dict[str, str]:
    """Return values for the settings of deploy/env.example; fail if it names others."""
    values = {
        "ALLOWED_HOSTS": "tenants.example.com",
        "CSRF_TRUSTED_ORIGINS": "https://tenants.example.com",
        "SECURE_HSTS_SECONDS": "3600",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "METRICS_TOKEN": secrets.token_urlsafe(32),
        "CLERK_SECRET_KEY": clerk["secretKey"],
        "CLERK_ISSUER": clerk["issuer"],
        "CLERK_AUTHORIZED_PARTIES": "",
        "CLERK_WEBHOOK_SIGNING_SECRET": clerk["webhookSigningSecret"],
        "DATABASE_URL": database_url,
    }
    example = (PROJECT / "deploy/env.example").read_text()
    unknown = set(re.findall(r"^(\w+)=", example, re.MULTILINE)) - set(values) - OF_THE_DATABASE
    assert not unknown, f"deploy/env.example names settings that the rehearsal does not set: {unknown}"
    return {**values, "CLERK_API_URL": clerk["apiUrl"]}


def start_proxy(deployment: Deployment) -> str | None:
    """Start nginx as compose.yaml does, and return its address; None if nginx is not installed."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        return None
    root, port = deployment.image.root, free_port()
    _make_certificate(root / "tls")
    text = (PROJECT / "deploy/nginx/nginx.conf").read_text()
    for old, new in {
        "web:8000": f"127.0.0.1:{deployment.port}",
        "listen 8080": f"listen 127.0.0.1:{free_port()}",
        "listen 8443": f"listen 127.0.0.1:{port}",
        " /tmp/": f" {root}/tmp/",
        "/dev/": f"{root}/tmp/",
        "/etc/nginx/tls": str(root / "tls"),
    }.items():
        assert old in text, f"deploy/nginx/nginx.conf does not say {old}"
        text = text.replace(old, new)
    (root / "nginx.conf").write_text(text)
    log = f"{root}/tmp/stderr"
    deployment.start("proxy", [nginx, "-e", log, "-c", f"{root}/nginx.conf", "-g", "daemon off;"])
    return f"https://127.0.0.1:{port}"


def _make_certificate(folder: Path) -> None:
    folder.mkdir()
    options = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout privkey.pem -out fullchain.pem"
    )
    subprocess.run(["openssl", *options.split()], cwd=folder, check=True, capture_output=True)
    (folder / "privkey.pem").chmod(0o644)
