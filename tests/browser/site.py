"""A running deployment with a database of its own: web server, worker and local Clerk."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from clerk_integration.sandbox.server import SandboxServer
from clerk_integration.wire import breaker
from tests.sandbox import SandboxControl
from tests.web_server import web_server
from tests.workers import Workers, database_url

CLERK_SETTINGS = {
    "CLERK_API_URL": "apiUrl",
    "CLERK_SECRET_KEY": "secretKey",
    "CLERK_ISSUER": "issuer",
    "CLERK_INSTANCE_ID": "instanceId",
}
WORKER_SETTINGS = "tests.worker_settings"

PASSWORD = "only for these tests"
VIEWERS, OPERATORS, ADMINISTRATORS = "viewers", "operators", "administrators"


@dataclass
class Site:
    """The servers of the deployment."""

    url: str
    clerk: SandboxControl
    workers: Workers
    database: str

    def signed_in(self, group: str) -> Any:
        """Return the state of a browser in which a member of the group is signed in."""
        user = staff(group)
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": session.session_key}
        return {"cookies": [{**cookie, "domain": "127.0.0.1", "path": "/"}], "origins": []}

    def require_worker(self) -> None:
        """Start a worker if a test has killed the last one."""
        if all(worker.process.poll() is not None for worker in self.workers.all):
            self.workers.start()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Use the database and the local Clerk of this deployment in this process, for the block."""
        with _used_here(self.database, self.clerk.description):
            yield


def staff(group: str) -> User:
    """Return a member of staff who is in the group and has no other permission."""
    user, is_new = User.objects.get_or_create(username=group, defaults={"is_staff": True})
    if is_new:
        user.set_password(PASSWORD)
        user.save()
        user.groups.set(Group.objects.filter(name=f"Tenant {group}"))
    return user


@contextmanager
def running_site(directory: Path, name: str) -> Iterator[Site]:
    """Serve on a new database for the block, with one worker; the logs are in `directory`."""
    server = SandboxServer()
    with ExitStack() as stack:
        stack.enter_context(_database(name))
        server.start()
        stack.callback(server.stop)
        with _used_here(name, server.description):
            call_command("migrate", verbosity=0, interactive=False)
            log = stack.enter_context((directory / "web.log").open("w"))
            environment = {
                "DATABASE_URL": database_url(),
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "CLERK_TIMEOUT_SECONDS": "20",  # other tests may keep the processors busy
            }
            port = stack.enter_context(web_server("--threads", "4", output=log.fileno(), **environment))
            workers = Workers(directory, WORKER_SETTINGS, None)
            stack.callback(workers.kill)
            workers.start()
        clerk = SandboxControl(server.description)
        stack.callback(clerk.close)
        yield Site(f"http://127.0.0.1:{port}", clerk, workers, name)


@contextmanager
def _database(name: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {name}")
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _used_here(database: str, clerk: Mapping[str, str]) -> Iterator[None]:
    """Use the database and the local Clerk in this process, and in the processes that it starts."""
    values = {name: clerk[key] for name, key in CLERK_SETTINGS.items()}
    former = connection.settings_dict["NAME"]
    with patch.dict(os.environ, values), override_settings(**values):
        breaker.reset()
        connection.close()
        connection.settings_dict["NAME"] = database
        try:
            yield
        finally:
            connection.close()
            connection.settings_dict["NAME"] = former
