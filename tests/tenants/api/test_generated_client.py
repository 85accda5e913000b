"""Clients in Python and TypeScript that are generated from docs/openapi.yaml, against the web server."""

import json
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tenants.models import Tenant
from tests.children import PROJECT, child_environment
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller
from tests.web_server import web_server

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

DOCUMENT = PROJECT / "docs" / "openapi.yaml"
PACKAGE = "generated_client"
SYNCS_PER_MINUTE = 2
CSRF_TOKEN = "c" * 32

NODE_PACKAGES = ["openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3"]
STRICT = ["--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes"]
TYPESCRIPT = [*STRICT, "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext"]
TYPESCRIPT += ["--rewriteRelativeImportExtensions", "--outDir", "out"]


class GeneratedClient:
    """Calls the generated functions as a Clerk user, as staff or anonymously, and remembers their names."""

    def __init__(self, url: str, sandbox: SandboxControl) -> None:
        self.called: set[str] = set()
        self._clients: list[Any] = []
        self._url = url
        self._sandbox = sandbox

    def close(self) -> None:
        """Close the connections of all clients."""
        for client in self._clients:
            client.get_httpx_client().close()

    def call(self, client: Any, operation: str, *arguments: Any, **body: Any) -> tuple[int, Any]:
        """Return the status and the model that the client made of the response."""
        self.called.add(operation)
        function = import_module(f"{PACKAGE}.api.tenants.{operation}").sync_detailed
        response = function(*arguments, client=client, **body)
        return int(response.status_code), response.parsed

    def user(self, user_id: str, **token: Any) -> Any:
        return self._client("AuthenticatedClient", token=self._sandbox.token(user_id, **token))

    def anonymous(self, **options: Any) -> Any:
        return self._client("Client", **options)

    def staff(self) -> Any:
        return self.anonymous(cookies=staff_cookies(), headers={"X-CSRFToken": CSRF_TOKEN})

    def _client(self, kind: str, **options: Any) -> Any:
        options |= {"base_url": self._url, "httpx_args": {"trust_env": False}}
        client = getattr(import_module(PACKAGE), kind)(raise_on_unexpected_status=True, **options)
        self._clients.append(client)
        return client


def staff_cookies() -> dict[str, str]:
    django = Client()
    django.force_login(User.objects.create_superuser("alan"))
    return {"sessionid": django.cookies["sessionid"].value, "csrftoken": CSRF_TOKEN}


def model(name: str) -> Any:
    return getattr(import_module(f"{PACKAGE}.models"), name)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Generate the client, with a warning of the generator as an error, and make it importable."""
    directory = tmp_path_factory.mktemp("client")
    config = directory / "config.yaml"
    config.write_text("post_hooks: []\n")  # The hooks format the code.
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--meta",
        "none",
        "--fail-on-warning",
    ]
    command += ["--path", str(DOCUMENT), "--config", str(config)]
    subprocess.run([*command, "--output-path", str(directory / PACKAGE)], check=True)
    sys.path.insert(0, str(directory))
    yield directory / PACKAGE
    sys.path.remove(str(directory))


@pytest.fixture
def url(sandbox: SandboxControl) -> Iterator[str]:
    """Run the web server with a small limit of syncs, and return its address."""
    environment = child_environment(sandbox.description) | {
        "CLERK_JWT_KEY": sandbox.description["jwtKey"],
        "CLERK_ISSUER": sandbox.description["issuer"],
        "TENANT_SYNC_LIMIT": f"{SYNCS_PER_MINUTE}/minute",
    }
    connection.close()
    with web_server("--workers", "1", output=subprocess.DEVNULL, **environment) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def api(package: Path, url: str, sandbox: SandboxControl) -> Iterator[GeneratedClient]:
    client = GeneratedClient(url, sandbox)
    yield client
    client.close()


@pytest.fixture
def node_project(tmp_path: Path) -> Path:
    """Install the generator and the compiler of TypeScript; skip the test if that is not possible."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("Node and npm are not installed.")
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=20000"]
    command += NODE_PACKAGES
    installed = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"npm could not install {', '.join(NODE_PACKAGES)}: {installed.stderr[:300]}")
    return tmp_path


def test_generated_client_calls_every_operation_and_parses_the_results(
    api: GeneratedClient, package: Path, ada: Caller
) -> None:
    user, staff = api.user(ada.id), api.staff()

    def succeed(client: Any, operation: str, *arguments: Any, **body: Any) -> Any:
        status, parsed = api.call(client, operation, *arguments, **body)
        assert status in {200, 201, 204}, (operation, status, parsed)
        return parsed

    tenant = succeed(user, "create_tenant", body=model("TenantCreateRequest")(name="Acme", slug="acme"))
    change = model("PatchedTenantChangeRequest")(name="Acme Ltd")
    assert (tenant.name, tenant.is_primary, tenant.role) == ("Acme", True, "org:admin")
    assert succeed(user, "update_tenant", tenant.id, body=change).name == "Acme Ltd"
    for operation, argument in {
        "get_tenant": tenant.id,
        "get_tenant_by_slug": "acme",
        "get_tenant_by_organization": tenant.clerk_org_id,
        "set_primary_tenant": tenant.id,
        "sync_tenant": tenant.id,
    }.items():
        found = succeed(user, operation, argument)
        assert (found.id, found.name, found.created_at) == (tenant.id, "Acme Ltd", tenant.created_at)
    assert succeed(user, "get_my_primary_tenant_id").tenant_id == tenant.id
    page = succeed(user, "list_tenants", page_size=1, search="acme")
    assert (page.count, page.next_, [one.id for one in page.results]) == (1, None, [tenant.id])
    assert [one.id for one in succeed(user, "list_my_tenants")] == [tenant.id]
    assert [one.clerk_user_id for one in succeed(user, "list_tenant_members", tenant.id).results] == [ada.id]
    assert succeed(user, "list_tenant_history", tenant.id).count > 0
    assert succeed(user, "deactivate_tenant", tenant.id).status == "deactivated"
    assert succeed(staff, "delete_tenant", tenant.id, delete_clerk_organization=True) is None

    assert api.called == {one.name for one in pkgutil.iter_modules([str(package / "api" / "tenants")])}


def test_generated_client_given_refusals_parses_them_into_error_models(
    api: GeneratedClient, sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    new, old = ada.create().json()["id"], legacy(members={ada.id: "owner"}).pk
    user, staff, forged = api.user(ada.id), api.staff(), api.user(ada.id, signature="forged")
    stranger = api.user(sandbox.user()["id"])
    text = api.anonymous(headers={"Accept": "text/plain"})
    create, change = model("TenantCreateRequest"), model("PatchedTenantChangeRequest")

    sandbox.fault("POST /v1/organizations", status=503, times=9)

    def refusal(client: Any, operation: str, *arguments: Any, **body: Any) -> tuple[int, str, str]:
        status, parsed = api.call(client, operation, *arguments, **body)
        return status, type(parsed).__name__, parsed.errors[0].code

    server, client, invalid = "ServerErrorResponse", "ClientErrorResponse", "ValidationErrorResponse"
    assert refusal(api.anonymous(), "list_my_tenants") == (401, client, "not_authenticated")
    assert refusal(forged, "list_my_tenants") == (401, client, "token_invalid_signature")
    assert refusal(user, "delete_tenant", new) == (403, client, "permission_denied")
    assert refusal(stranger, "get_tenant", new) == (404, client, "not_found")
    assert refusal(stranger, "get_my_primary_tenant_id") == (404, client, "not_found")
    assert refusal(user, "get_tenant_by_slug", "unknown") == (404, client, "not_found")
    assert refusal(text, "list_tenants") == (406, client, "not_acceptable")
    assert refusal(user, "list_tenants", page_size=1000) == (400, invalid, "max_value")
    assert refusal(user, "create_tenant", body=create(name="")) == (400, invalid, "blank")
    assert refusal(user, "update_tenant", new, body=change(suspension_reason="Unpaid")) == (
        400,
        invalid,
        "invalid",
    )
    assert refusal(staff, "delete_tenant", new) == (409, client, "organization_exists")
    for _ in range(SYNCS_PER_MINUTE):
        assert refusal(user, "sync_tenant", old) == (409, client, "not_linked")
    assert refusal(user, "sync_tenant", old) == (429, client, "throttled")
    assert refusal(user, "create_tenant", body=create(name="Acme")) == (500, server, "clerk_unavailable")


def test_typescript_client_under_strict_rules_compiles_and_calls_every_operation(
    node_project: Path, url: str, sandbox: SandboxControl, ada: Caller
) -> None:
    def run(*command: str) -> str:
        done = subprocess.run(command, check=False, cwd=node_project, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    source = Path(__file__).with_name("generated_client.ts").read_text()
    (node_project / "client.ts").write_text(source)
    run("node_modules/.bin/openapi-typescript", str(DOCUMENT), "--output", "api.ts")
    run("node_modules/.bin/tsc", *TYPESCRIPT, "client.ts")

    operations = yaml.safe_load(DOCUMENT.read_text())["paths"].items()
    calls = [f'.{method.upper()}("{path}"' for path, methods in operations for method in methods]
    assert [call for call in calls if call not in source] == []
    cookies = "; ".join(f"{name}={value}" for name, value in staff_cookies().items())
    token = sandbox.token(ada.id, expiresIn=600)
    answers = json.loads(run("node", "out/client.js", url, token, cookies, CSRF_TOKEN))

    assert answers == {
        "tenants": [[True, "Acme Ltd"]] * 9,
        "primary": True,
        "members": [ada.id],
        "history": True,
        "statuses": ["deactivated", 204],
        "refusals": [
            [401, "not_authenticated"],
            [401, "token_invalid"],
            [403, "permission_denied"],
            [404, "not_found"],
            [404, "not_found"],
            [406, "not_acceptable"],
            [400, "max_value"],
            [400, "blank"],
            [409, "organization_exists"],
            [429, "throttled"],
        ],
    }
