"""Every endpoint that the coverage table claims: routed, called by the SDK, held against the spec."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from clerk_backend_api import Clerk
from jsonschema import Draft202012Validator

from clerk_integration.sandbox.coverage import COVERAGE, Endpoint
from clerk_integration.sandbox.routing import API
from tests.clerk_integration.sandbox.specification import read_specification
from tests.sandbox import SandboxControl, official_sdk

# The SDK reads fields that it declares deprecated itself when it builds the query of a user listing.
pytestmark = pytest.mark.filterwarnings(r"ignore:warning. \*\* DEPRECATED:DeprecationWarning")

FRONTEND_API = "/.well-known/"
CLAIMED = [row for row in COVERAGE if row.coverage != "missing"]
BACKEND = [row for row in CLAIMED if not row.path.startswith(FRONTEND_API)]


class World(NamedTuple):
    """An organization with its admin and a member, and a user outside of it."""

    organization: str
    admin: str
    member: str
    outsider: str
    api_key: str
    api_key_secret: str


Call = Callable[[Clerk, World], object]

CALLS: dict[str, Call] = {
    "GET /v1/jwks": lambda clerk, _: clerk.jwks.get_jwks(),
    "GET /v1/instance": lambda clerk, _: clerk.instance_settings.get(),
    "GET /v1/instance/organization_settings": (
        lambda clerk, _: clerk.instance_settings.get_organization_settings()
    ),
    "PATCH /v1/instance/organization_settings": (
        lambda clerk, _: clerk.instance_settings.update_organization_settings(
            request={"max_allowed_memberships": 7, "creator_role_id": "role_admin"}
        )
    ),
    "GET /v1/organizations": (
        lambda clerk, world: clerk.organizations.list(
            include_members_count=True,
            query="acm",
            user_id=[world.admin],
            organization_id=[f"+{world.organization}"],
            order_by="+name",
            limit=500,
        )
    ),
    "POST /v1/organizations": (
        lambda clerk, world: clerk.organizations.create(
            request={
                "name": "Umbrella",
                "slug": "umbrella",
                "created_by": world.admin,
                "created_at": "2024-01-02T03:04:05.678Z",
                "public_metadata": {"plan": "gold"},
                "private_metadata": {"note": 1},
                "max_allowed_memberships": 0,
            }
        )
    ),
    "GET /v1/organizations/{organization_id}": (
        lambda clerk, world: clerk.organizations.get(
            organization_id=world.organization, include_members_count=True
        )
    ),
    "PATCH /v1/organizations/{organization_id}": (
        lambda clerk, world: clerk.organizations.update(organization_id=world.organization, name="Renamed")
    ),
    "DELETE /v1/organizations/{organization_id}": (
        lambda clerk, world: clerk.organizations.delete(organization_id=world.organization)
    ),
    "PATCH /v1/organizations/{organization_id}/metadata": (
        lambda clerk, world: clerk.organizations.merge_metadata(
            organization_id=world.organization, public_metadata={"a": {"b": 1}}
        )
    ),
    "PUT /v1/organizations/{organization_id}/metadata": (
        lambda clerk, world: clerk.organizations.replace_metadata(
            organization_id=world.organization, private_metadata={"a": 1}
        )
    ),
    "GET /v1/organizations/{organization_id}/memberships": (
        lambda clerk, world: clerk.organization_memberships.list(
            organization_id=world.organization, role=["org:admin"], order_by="-created_at", limit=500
        )
    ),
    "POST /v1/organizations/{organization_id}/memberships": (
        lambda clerk, world: clerk.organization_memberships.create(
            organization_id=world.organization, user_id=world.outsider, role="org:member"
        )
    ),
    "PATCH /v1/organizations/{organization_id}/memberships/{user_id}": (
        lambda clerk, world: clerk.organization_memberships.update(
            organization_id=world.organization, user_id=world.member, role="org:admin"
        )
    ),
    "DELETE /v1/organizations/{organization_id}/memberships/{user_id}": (
        lambda clerk, world: clerk.organization_memberships.delete(
            organization_id=world.organization, user_id=world.member
        )
    ),
    "PATCH /v1/organizations/{organization_id}/memberships/{user_id}/metadata": (
        lambda clerk, world: clerk.organization_memberships.update_metadata(
            organization_id=world.organization, user_id=world.member, public_metadata={"desk": 4}
        )
    ),
    "GET /v1/organization_memberships": (
        lambda clerk, _: clerk.users.get_instance_organization_memberships(limit=500)
    ),
    "GET /v1/users": (
        lambda clerk, world: clerk.users.list(request={"user_id": [world.admin], "order_by": "-created_at"})
    ),
    "GET /v1/users/count": lambda clerk, _: clerk.users.count(request={"query": "ad"}),
    "GET /v1/users/{user_id}": lambda clerk, world: clerk.users.get(user_id=world.admin),
    "PATCH /v1/users/{user_id}": (
        lambda clerk, world: clerk.users.update(user_id=world.member, first_name="Grace", external_id="7")
    ),
    "DELETE /v1/users/{user_id}": lambda clerk, world: clerk.users.delete(user_id=world.member),
    "GET /v1/users/{user_id}/organization_memberships": (
        lambda clerk, world: clerk.users.get_organization_memberships(user_id=world.admin, limit=500)
    ),
    "POST /v1/api_keys/verify": (
        lambda clerk, world: clerk.api_keys.verify_api_key(secret=world.api_key_secret)
    ),
    "POST /v1/api_keys/{apiKeyID}/revoke": (
        lambda clerk, world: clerk.api_keys.revoke_api_key(api_key_id=world.api_key, revocation_reason="lost")
    ),
}


@pytest.fixture
def world(sandbox: SandboxControl) -> World:
    admin = sandbox.user(firstName="Ada", emailAddress="ada@example.com", username="ada")["id"]
    member, outsider = sandbox.user()["id"], sandbox.user()["id"]
    organization = sandbox.organization("Acme", admin, slug="acme")["id"]
    sandbox.membership(organization, member)
    key = sandbox.call(
        "POST", "api-keys", {"subject": member, "scopes": ["a:b"], "secondsUntilExpiration": 9}
    )
    return World(organization, admin, member, outsider, key["id"], key["secret"])


@pytest.fixture
def replies() -> list[httpx.Response]:
    return []


@pytest.fixture
def clerk(sandbox: SandboxControl, replies: list[httpx.Response]) -> Iterator[Clerk]:
    with official_sdk(sandbox.description, on_response=replies.append) as sdk:
        yield sdk


def _name(row: Endpoint) -> str:
    return f"{row.method} {row.path}"


def test_coverage_table_claims_exactly_the_routes() -> None:
    assert sorted(map(_name, CLAIMED)) == sorted(f"{route.method} {route.path}" for route in API.routes)


def test_coverage_table_has_one_row_per_endpoint() -> None:
    assert len({_name(row) for row in COVERAGE}) == len(COVERAGE)


def test_coverage_partial_rows_say_what_is_partial() -> None:
    assert [row for row in COVERAGE if row.coverage == "partial" and not row.notes] == []


@pytest.mark.parametrize("row", BACKEND, ids=_name)
def test_endpoint_called_by_the_sdk_answers_what_the_sdk_parses(
    row: Endpoint, clerk: Clerk, world: World, replies: list[httpx.Response], sandbox: SandboxControl
) -> None:
    result = CALLS[_name(row)](clerk, world)

    assert result is not None
    assert [reply.status_code for reply in replies] == [200]
    assert [call["method"] for call in sandbox.requests()] == [row.method]


@pytest.mark.parametrize("row", BACKEND, ids=_name)
def test_endpoint_reply_agrees_with_clerks_specification(
    row: Endpoint, clerk: Clerk, world: World, replies: list[httpx.Response]
) -> None:
    specification = read_specification("bapi-2026-05-12.yml")

    CALLS[_name(row)](clerk, world)

    schema = _response_schema(specification, row)
    assert [error.message for error in _validator(specification, schema).iter_errors(replies[0].json())] == []


def test_error_reply_agrees_with_clerks_specification(
    sandbox: SandboxControl, replies: list[httpx.Response]
) -> None:
    specification = read_specification("bapi-2026-05-12.yml")
    reply = httpx.get(f"{sandbox.description['apiUrl']}/organizations")

    schema = {"$ref": "#/components/schemas/ClerkErrors"}
    assert reply.status_code == 401
    assert [error.message for error in _validator(specification, schema).iter_errors(reply.json())] == []


def test_coverage_table_names_paths_of_clerks_specification() -> None:
    paths = read_specification("bapi-2026-05-12.yml")["paths"]

    unknown = [
        _name(row)
        for row in COVERAGE
        if not row.path.startswith(FRONTEND_API)
        and row.method.lower() not in paths.get(row.path.removeprefix("/v1"), {})
    ]
    assert unknown == []


def test_frontend_jwks_needs_no_key_and_equals_the_backend_one(sandbox: SandboxControl, clerk: Clerk) -> None:
    public = httpx.get(f"{sandbox.url}/.well-known/jwks.json").json()

    assert public == sandbox.api("GET", "/jwks")
    assert [key["kid"] for key in public["keys"]] == [sandbox.description["instanceId"]]


def _response_schema(specification: Any, row: Endpoint) -> Any:
    operation = specification["paths"][row.path.removeprefix("/v1")][row.method.lower()]
    response = operation["responses"]["200"]
    if "$ref" in response:
        response = specification["components"]["responses"][response["$ref"].rsplit("/", 1)[-1]]
    return response["content"]["application/json"]["schema"]


def _validator(specification: Any, schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": specification["components"]})
