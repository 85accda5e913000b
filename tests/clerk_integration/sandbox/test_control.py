"""The sandbox's control API and the fixtures on it."""

from collections.abc import Mapping

import httpx
import jwt
import pytest
from pytest_django import Settings

from tests.sandbox import Json, SandboxControl


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


@pytest.mark.parametrize("user_id", ["ada", "", "org_ada"])
def test_new_user_whose_id_is_no_user_id_is_refused(sandbox: SandboxControl, user_id: str) -> None:
    reply = httpx.post(f"{sandbox.url}/sandbox/users", json={"id": user_id})

    assert reply.status_code == 422
    assert sandbox.api("GET", "/users") == []


@pytest.mark.parametrize(
    ("variant", "present", "absent"),
    [
        ("session", {"sid", "v", "sts", "fva", "o"}, {"org_id"}),
        ("v1", {"sid", "org_id", "org_role", "org_slug"}, {"v", "o"}),
        ("template", {"sub", "exp"}, {"sid", "v", "o"}),
        ("oauth", {"client_id"}, {"sid", "v", "o"}),
        ("machine", {"sub"}, {"sid", "v", "o"}),
    ],
)
def test_token_variants_carry_the_claims_of_their_kind(
    sandbox: SandboxControl, variant: str, present: set[str], absent: set[str]
) -> None:
    user = sandbox.user()["id"]
    organization = sandbox.organization("Acme", user)["id"]

    claims = _claims(sandbox, sandbox.token(user, organization, variant=variant))

    assert present <= set(claims)
    assert not absent & set(claims)


def test_token_expired_forged_or_unsigned_does_not_verify(sandbox: SandboxControl) -> None:
    user = sandbox.user()["id"]

    with pytest.raises(jwt.ExpiredSignatureError):
        _claims(sandbox, sandbox.token(user, expiresIn=-60))
    with pytest.raises(jwt.InvalidSignatureError):
        _claims(sandbox, sandbox.token(user, signature="forged"))
    with pytest.raises(jwt.InvalidAlgorithmError):
        _claims(sandbox, sandbox.token(user, signature="none"))


def test_token_claims_and_header_are_laid_over_the_rest(sandbox: SandboxControl) -> None:
    token = sandbox.token(
        sandbox.user()["id"], claims={"azp": "https://app.example.com", "sid": None}, header={"kid": "other"}
    )

    claims = _claims(sandbox, token)
    assert claims["azp"] == "https://app.example.com"
    assert "sid" not in claims
    assert jwt.get_unverified_header(token)["kid"] == "other"


def test_token_without_organization_is_pending_where_membership_is_required(sandbox: SandboxControl) -> None:
    sandbox.settings(membershipRequired=True)
    user = sandbox.user()["id"]
    organization = sandbox.organization("Acme", user)["id"]

    assert _claims(sandbox, sandbox.token(user))["sts"] == "pending"
    assert _claims(sandbox, sandbox.token(user, organization))["sts"] == "active"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"userId": "user_nobody"}, 404),
        ({"userId": 5}, 422),
        ({"userId": "user_1", "organizationId": "org_nothing"}, 404),
        ({"userId": "user_1", "variant": "v3"}, 422),
        ({"userId": "user_1", "claims": []}, 422),
        ({"userId": "user_1", "unknown": 1}, 422),
    ],
)
def test_token_for_an_unknown_user_or_bad_fields_is_refused(
    sandbox: SandboxControl, body: Json, status: int
) -> None:
    sandbox.user("user_1")

    reply = httpx.post(f"{sandbox.url}/sandbox/session-tokens", json=body)

    assert reply.status_code == status
    assert reply.json()["errors"][0]["message"]


def test_requests_list_calls_of_the_api_and_none_of_control(sandbox: SandboxControl) -> None:
    sandbox.organization("Acme")
    headers = {"Authorization": f"Bearer {sandbox.description['secretKey']}"}
    httpx.post(f"{sandbox.url}/v1/organizations?x=1&x=2", json={"name": "Umbrella"}, headers=headers)

    assert sandbox.requests() == [
        {
            "method": "POST",
            "path": "/v1/organizations",
            "query": {"x": ["1", "2"]},
            "status": 200,
            "body": {"name": "Umbrella"},
        }
    ]
    sandbox.clear_requests()
    assert sandbox.requests() == []


def test_patch_record_odd_fields_are_served_alone_and_nested(sandbox: SandboxControl) -> None:
    user = sandbox.user()["id"]
    organization = sandbox.organization("Acme", user)["id"]
    membership = sandbox.api("GET", "/organization_memberships")["data"][0]["id"]

    sandbox.patch_record(organization, slug=None, object="organisation", remove=("has_image",))
    sandbox.patch_record(membership, permissions=None, remove=("public_user_data",))

    alone = sandbox.api("GET", f"/organizations/{organization}")
    listed = sandbox.api("GET", "/organization_memberships")["data"][0]
    assert (alone["slug"], alone["object"], "has_image" in alone) == (None, "organisation", False)
    assert listed["organization"] == alone
    assert (listed["permissions"], "public_user_data" in listed) == (None, False)


def test_reset_forgets_everything_but_the_keys(sandbox: SandboxControl) -> None:
    user = sandbox.user()["id"]
    organization = sandbox.organization("Acme", user)["id"]
    sandbox.patch_record(organization, name="Patched")
    sandbox.settings(slugs="disabled", rateLimit="dev", latencyMs=1)
    sandbox.fault("*", status=500)
    key = sandbox.api("GET", "/jwks")

    sandbox.reset()

    assert sandbox.api("GET", "/organizations")["total_count"] == 0
    assert sandbox.api("GET", "/users") == []
    assert sandbox.api("GET", "/instance/organization_settings")["slug_disabled"] is False
    assert httpx.get(f"{sandbox.url}/sandbox/faults").json() == []
    assert sandbox.api("GET", "/jwks") == key


def test_reset_to_a_population_is_the_same_for_the_same_seed(sandbox: SandboxControl) -> None:
    def ids(seed: int) -> list[str]:
        sandbox.reset(seed=seed, organizations=3, users=2, membershipsPerOrganization=2)
        return [row["id"] for row in sandbox.api("GET", "/organization_memberships")["data"]]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_reset_to_an_impossible_population_is_refused(sandbox: SandboxControl) -> None:
    reply = httpx.post(f"{sandbox.url}/sandbox/reset", json={"users": 1, "membershipsPerOrganization": 2})

    assert reply.status_code == 422


@pytest.mark.parametrize("odd", ["9" * 4400, "[" * 1100 + "]" * 1100])
def test_replaced_record_is_served_to_the_letter(sandbox: SandboxControl, odd: str) -> None:
    organization = sandbox.organization("Acme", sandbox.user()["id"])["id"]
    text = f'{{"object":"organization","id":"{organization}","public_metadata":{{"odd":{odd}}}}}'

    sandbox.replace_record(organization, text)

    with sandbox.backend_client() as http:
        assert http.get(f"/v1/organizations/{organization}").text == text
        assert f'"organization":{text},' in http.get("/v1/organization_memberships").text
        assert f'{text[:-1]},"members_count":1}}' in (
            http.get("/v1/organizations", params={"include_members_count": True}).text
        )


def test_use_instance_serves_other_keys_and_records_until_the_first_is_back(sandbox: SandboxControl) -> None:
    sandbox.organization("First")

    other = sandbox.use_instance("other")
    unknown = httpx.get(f"{sandbox.url}/v1/instance", headers=_authorization(sandbox.description))
    served = httpx.get(f"{sandbox.url}/v1/instance", headers=_authorization(other)).json()
    token = sandbox.token(sandbox.user()["id"])
    records = sandbox.api("GET", "/organizations")["total_count"]
    again = sandbox.use_instance("other")
    first = sandbox.use_instance()

    assert other.keys() == sandbox.description.keys()
    assert (other["apiUrl"], other["issuer"]) == (sandbox.description["apiUrl"], sandbox.url)
    assert (unknown.status_code, served["id"]) == (401, other["instanceId"])
    assert jwt.decode(token, other["jwtKey"], algorithms=["RS256"])["iss"] == sandbox.url
    with pytest.raises(jwt.InvalidSignatureError):
        _claims(sandbox, token)
    assert (records, sandbox.api("GET", "/organizations")["total_count"]) == (0, 1)
    assert (again, first) == (other, sandbox.description)


def test_reset_returns_to_the_first_instance_and_forgets_the_others(sandbox: SandboxControl) -> None:
    other = sandbox.use_instance("other")

    sandbox.reset()

    assert sandbox.use_instance("other")["instanceId"] != other["instanceId"]


def _authorization(description: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {description['secretKey']}"}


def _claims(sandbox: SandboxControl, token: str) -> Json:
    return jwt.decode(token, sandbox.description["jwtKey"], algorithms=["RS256"])
