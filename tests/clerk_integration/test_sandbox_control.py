"""The sandbox's control API and the fixtures on it."""

import jwt
from pytest_django import Settings

from tests.sandbox import SandboxControl


def test_sandbox_fixture_points_the_settings_at_the_server(
    sandbox: SandboxControl, settings: Settings
) -> None:
    assert sandbox.description["apiUrl"] == settings.CLERK_API_URL
    assert sandbox.requests() == []


def test_token_with_an_organization_carries_its_claims(sandbox: SandboxControl) -> None:
    user = sandbox.user()
    organization = sandbox.organization("Acme", user["id"], slug="acme")

    claims = jwt.decode(
        sandbox.token(user["id"], organization["id"]),
        sandbox.description["jwtKey"],
        algorithms=["RS256"],
        issuer=sandbox.description["issuer"],
    )

    assert claims["o"] == {"id": organization["id"], "rol": "admin", "slg": "acme"}
    assert (claims["sub"], claims["v"], claims["sts"]) == (user["id"], 2, "active")
