"""The wheel, installed into a project that has its own user model, REST_FRAMEWORK, TIME_ZONE and allauth."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from clerk_integration.sandbox.server import SandboxServer
from tests.sandbox import SandboxControl
from tests.workers import database_url

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

PROJECT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).parent / "project"
PACKAGES = ("django-allauth", "uvicorn", "pymysql")
START_SECONDS = 60.0
PAGES = (
    "",
    *("tenants/tenant/", "tenants/tenant/dashboard/", "tenants/tenant/import/", "tenants/tenant/export/"),
    *("tenants/membership/", "tenants/tenanthistory/", "tenants/creationattempt/"),
    *("tenants/syncrun/", "tenants/syncrun/1/change/", "tenants/syncrun/start/full_sync/"),
    *("clerk_integration/webhookdelivery/", "clerk_integration/webhookdelivery/1/change/"),
    "procrastinate/procrastinatejob/",
)
LOGIN = {"username": "staff", "password": "a password of staff"}


def uv(*arguments: str) -> None:
    command = os.environ.get("UV") or shutil.which("uv")
    assert command is not None, "uv is not installed"
    subprocess.run([command, *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which the wheel is installed, without this repository."""
    directory = tmp_path_factory.mktemp("installed")
    uv("build", "--quiet", "--wheel", "--out-dir", str(directory), str(PROJECT))
    uv("venv", "--quiet", "--python", sys.executable, str(directory / "venv"))
    [wheel] = directory.glob("*.whl")
    executable = directory / "venv" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", str(executable), str(wheel), *PACKAGES)
    return executable


class Shop:
    """The project, with a database of its own."""

    def __init__(self, directory: Path, python: Path, **changes: Any) -> None:
        self._directory = directory
        self._python = python
        self._environment = {
            "PATH": os.environ["PATH"],
            "SHOP": json.dumps(changes),
            "DJANGO_SUPERUSER_PASSWORD": LOGIN["password"],
            "DJANGO_ALLOW_ASYNC_UNSAFE": "",
        }

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._python, "manage.py", *arguments],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def run(self, *arguments: str) -> str:
        done = self.manage(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serve(self, kind: str) -> Iterator[httpx.Client]:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        commands = {
            "wsgi": ["manage.py", "runserver", "--noreload", "--nothreading", str(port)],
            "asgi": ["-m", "uvicorn", "--port", str(port), "shop.asgi:application"],
        }
        log = (self._directory / f"{kind}.log").open("w")
        server = subprocess.Popen(
            [self._python, *commands[kind]],
            cwd=self._directory,
            env=self._environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(port, server)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
                yield client
        finally:
            server.terminate()
            server.wait()
            log.close()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has ended"
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.fixture
def database(db: None) -> Iterator[dict[str, Any]]:
    """An empty database, as Django's settings name it."""
    name = f"shop_{os.getpid()}_{time.time_ns()}"
    with psycopg.connect(database_url(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        info = connection.info
        yield {
            "NAME": name,
            "USER": info.user,
            "PASSWORD": info.password,
            "HOST": info.host,
            "PORT": info.port,
        }
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def shop(
    tmp_path: Path, python: Path, database: dict[str, Any], clerk_sandbox_server: SandboxServer
) -> Callable[..., Shop]:
    """Return a function that makes the project, with changed settings."""
    directory = tmp_path / "project"
    shutil.copytree(TEMPLATE, directory, ignore=shutil.ignore_patterns("__pycache__"))
    description = clerk_sandbox_server.description

    def make(**changes: Any) -> Shop:
        settings = {
            "DATABASE": database,
            "DEBUG": True,  # The local Clerk is on this machine.
            "CLERK_TIMEOUT_SECONDS": 30,
            "CLERK_SECRET_KEY": description["secretKey"],
            "CLERK_API_URL": description["apiUrl"],
            "CLERK_JWT_KEY": description["jwtKey"],
            "CLERK_WEBHOOK_SIGNING_SECRET": [description["webhookSigningSecret"]],
        }
        return Shop(directory, python, **settings | changes)

    return make


def log_in(client: httpx.Client) -> None:
    client.get("/back-office/login/")
    form = {**LOGIN, "csrfmiddlewaretoken": client.cookies["csrftoken"], "next": "/back-office/"}
    assert client.post("/back-office/login/", data=form).status_code == 302


def import_file(client: httpx.Client) -> None:
    """Check a file on the page that imports tenants, and confirm it."""
    page, token = "/back-office/tenants/tenant/import/", {"csrfmiddlewaretoken": client.cookies["csrftoken"]}
    csv = b"external_id,name\nolder-1,Older\n"
    checked = client.post(page, data=token, files={"file": ("old.csv", csv)})
    assert checked.status_code == 200, checked.text
    found = re.search(r'name="preview" value="([^"]+)"', checked.text)
    assert found is not None
    confirmed = client.post(page, data={**token, "preview": found[1]})
    assert confirmed.status_code == 302, confirmed.text


def sync(shop: Shop) -> None:
    """Complete a full sync and a dry run; `sync_runs` shows when they began, in UTC."""
    shop.run("sync_from_clerk")
    before = time.time()
    run = json.loads(shop.run("sync_from_clerk", "--dry-run", "--json").splitlines()[-1])["run"]
    [newest, *_] = shop.run("sync_runs").splitlines()
    hours = {time.strftime("%Y-%m-%d %H", time.gmtime(at)) for at in (before, time.time())}
    assert any(newest.startswith(f"run {run}: {hour}:") for hour in hours), newest


def use(client: httpx.Client, sandbox: SandboxControl, shop: Shop) -> None:
    """Create, list, rename by webhook, and open the admin."""
    user = sandbox.user()["id"]

    def call(method: str, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {sandbox.token(user)}", "Accept": "application/json"}
        return client.request(method, f"/v2{path}", headers=headers, json=body or None)

    created = call("POST", "/tenants/create", name="Acme")
    assert created.status_code == 201, created.text
    tenant = created.json()
    created_at = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d):.*Z", tenant["createdAt"])
    assert created_at is not None
    assert created_at[1] == time.strftime("%Y-%m-%dT%H", time.gmtime())
    listed = call("GET", "/tenants/me/get-tenants")
    assert ([row["id"] for row in listed.json()], listed.headers["X-Clerk-Sync"]) == (
        [tenant["id"]],
        "synced",
    )
    missing = call("GET", "/tenants/0")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "not_found")
    assert client.get(f"/v2/tenants/{tenant['id']}").headers["WWW-Authenticate"] == "Bearer"

    sandbox.webhooks(paused=True)
    sandbox.api("PATCH", f"/organizations/{tenant['clerkOrgId']}", {"name": "Renamed"})
    [*_, message] = [one for one in sandbox.messages() if one["type"] == "organization.updated"]
    stored = client.post("/clerk/webhook", content=sandbox.content(message), headers=sandbox.sign(message))
    assert stored.status_code == 204, stored.text
    shop.run("process_clerk_webhooks")
    assert call("GET", f"/tenants/{tenant['id']}").json()["name"] == "Renamed"

    sync(shop)
    log_in(client)
    row = f"tenants/tenant/{tenant['id']}"
    for page in (*PAGES, *(f"{row}/{name}/" for name in ("change", "rename", "compare", "do/suspend"))):
        shown = client.get(f"/back-office/{page}")
        assert shown.status_code == 200, page
    import_file(client)
    assert client.get(f"/v2/tenants/{tenant['id']}").json()["id"] == tenant["id"]
    assert "Renamed" in client.get("/back-office/tenants/tenant/").text
    page = client.get(f"/back-office/{row}/change/").text
    assert '<h1 class="tenants-title" dir="auto">Renamed</h1>' in page
    assert '<div class="breadcrumbs">' in page


def test_other_project_creates_lists_receives_webhooks_and_opens_the_admin(
    shop: Callable[..., Shop], sandbox: SandboxControl
) -> None:
    project = shop()
    assert "no issues" in project.run("check")
    project.run("makemigrations", "accounts")
    project.run("migrate")
    assert "No changes detected" in project.run("makemigrations", "--check", "--dry-run")
    project.run("createsuperuser", "--no-input", "--username", "staff", "--email", "staff@example.com")

    project.run("findstatic", "tenants/admin.css", "tenants/admin.js")
    assert "--metrics-port" in project.run("procrastinate", "worker", "--help")
    for kind in ("wsgi", "asgi"):
        with project.serve(kind) as client:
            use(client, sandbox, project)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"DATABASE": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}},
            "The database 'default' has the engine django.db.backends.sqlite3, and clerk-tenants needs",
        ),
        (
            {"DATABASE": {"ENGINE": "django.db.backends.mysql", "NAME": "shop"}},
            "The database 'default' has the engine django.db.backends.mysql, and clerk-tenants needs",
        ),
        (
            {"REMOVED_APPS": ["procrastinate.contrib.django"]},
            "procrastinate.contrib.django is not in INSTALLED_APPS, and webhooks are processed by its",
        ),
    ],
    ids=["sqlite", "mysql", "no procrastinate"],
)
def test_check_in_a_project_that_cannot_work_says_why(
    shop: Callable[..., Shop], changes: dict[str, Any], line: str
) -> None:
    checked = shop(**changes).manage("check")

    assert checked.returncode != 0
    assert line in checked.stderr
    assert "Traceback" not in checked.stderr


def test_migrate_with_a_table_name_in_use_says_which_and_migrates_nothing(
    shop: Callable[..., Shop], database: dict[str, Any]
) -> None:
    project = shop()
    project.run("makemigrations", "accounts")
    credentials = {name.lower(): value for name, value in database.items() if name != "NAME"}
    with psycopg.connect(dbname=database["NAME"], autocommit=True, **credentials) as connection:
        connection.execute("CREATE TABLE memberships (gym text)")

    for command in (("check", "--database", "default"), ("migrate",)):
        refused = project.manage(*command)
        assert refused.returncode != 0
        assert "The table `memberships` exists already and is not the one of tenants." in refused.stderr
        assert "Traceback" not in refused.stderr
