"""Which tokens are accepted, for which user, and which are refused with which code."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import override_settings
from pytest_django import Settings

from clerk_integration.exceptions import SessionPending, SessionTokenError
from clerk_integration.tokens.authentication import authenticate_session_token
from clerk_integration.tokens.clerk_user import ClerkUser
from clerk_integration.tokens.verified import verified_tokens
from tests.tokens import (
    ISSUER,
    KID,
    ORGANIZATION_ID,
    SESSION_ID,
    USER_ID,
    forged_token,
    handmade_token,
    private_key,
    public_pem,
    session_claims,
    session_token,
)

Authenticate = Callable[..., ClerkUser]
RefusalCode = Callable[[str], str]

ORGANIZATION_V2 = {"id": ORGANIZATION_ID, "slg": "acme", "rol": "admin", "per": "read,manage", "fpm": "3,2"}
ORGANIZATION_V1: dict[str, Any] = {
    "org_id": ORGANIZATION_ID,
    "org_role": "org:admin",
    "org_slug": "acme",
    "org_permissions": ["org:articles:read"],
}


@pytest.fixture(autouse=True)
def jwt_key(settings: Settings) -> None:
    settings.CLERK_JWT_KEY = public_pem()


@pytest.fixture(params=["cold", "warm"])
def authenticate(request: pytest.FixtureRequest) -> Authenticate:
    """Return the function under test; "warm": each token has been verified before, if it can be."""
    verified_tokens.clear()
    return warm if request.param == "warm" else authenticate_session_token


def warm(token: str, *, admit_pending: bool = False) -> ClerkUser:
    """Authenticate the token by settings that admit as much as possible, then by those of the test."""
    admitting: dict[str, Any] = {
        "CLERK_ISSUER": "",
        "CLERK_AUTHORIZED_PARTIES": [],
        "CLERK_AUDIENCE": [],
        "CLERK_CLOCK_SKEW_SECONDS": 3600,
    }
    with override_settings(**admitting), suppress(SessionTokenError):
        authenticate_session_token(token, admit_pending=True)
    return authenticate_session_token(token, admit_pending=admit_pending)


@pytest.fixture
def refusal_code(authenticate: Authenticate) -> RefusalCode:
    """Return a function that returns the code with which a token is refused."""

    def code(token: str) -> str:
        with pytest.raises(SessionTokenError) as refused:
            authenticate(token)
        return refused.value.code

    return code


def test_session_token_without_organization_signs_in_the_user(authenticate: Authenticate) -> None:
    assert authenticate(session_token()) == ClerkUser(clerk_user_id=USER_ID, session_id=SESSION_ID)


def test_session_token_v2_carries_role_and_permissions_as_the_backend_api_spells_them(
    authenticate: Authenticate,
) -> None:
    token = session_token(o=ORGANIZATION_V2, fea="o:articles,o:billing")
    assert authenticate(token) == ClerkUser(
        clerk_user_id=USER_ID,
        session_id=SESSION_ID,
        organization_id=ORGANIZATION_ID,
        organization_role="org:admin",
        organization_slug="acme",
        organization_permissions=frozenset(
            {"org:articles:read", "org:articles:manage", "org:billing:manage"}
        ),
    )


def test_session_token_v1_carries_the_same_organization(authenticate: Authenticate) -> None:
    assert authenticate(session_token(v=None, sts=None, **ORGANIZATION_V1)) == ClerkUser(
        clerk_user_id=USER_ID,
        session_id=SESSION_ID,
        organization_id=ORGANIZATION_ID,
        organization_role="org:admin",
        organization_slug="acme",
        organization_permissions=frozenset({"org:articles:read"}),
    )


@pytest.mark.parametrize(
    ("fea", "fpm", "granted"),
    [
        ("o:articles", "1", {"org:articles:read"}),
        ("o:articles", "2", {"org:articles:manage"}),
        ("uo:articles", "1", {"org:articles:read"}),
        ("u:news", "3", set()),
        ("o:articles,u:news", "3", {"org:articles:read", "org:articles:manage"}),
        # The readings of Clerk's SDKs disagree: what only one of them grants is not granted.
        ("u:news,o:articles", "3", set()),
        ("u:news,o:articles", "3,1", {"org:articles:read"}),
        ("u:articles,o:articles", "1", set()),
        ("u:news,o:articles,o:billing", "0,1,3", {"org:billing:read"}),
        ("o:articles,o:billing", "1", {"org:articles:read"}),
        ("o:articles", "1,3", {"org:articles:read"}),
        ("o:articles", "255", {"org:articles:read", "org:articles:manage"}),
        ("o:articles", "-1", set()),
        ("o:articles", "x", set()),
        ("o:articles", "9" * 5000, set()),
        ("articles", "3", set()),
        ("o:", "3", set()),
        (None, "3", set()),
        ("o:articles", None, set()),
    ],
)
def test_session_token_v2_with_features_grants_only_what_every_reading_grants(
    authenticate: Authenticate, fea: str | None, fpm: str | None, granted: set[str]
) -> None:
    organization = {**ORGANIZATION_V2, "fpm": fpm}
    assert authenticate(session_token(o=organization, fea=fea)).organization_permissions == granted


def test_clerk_user_has_no_django_permissions(authenticate: Authenticate) -> None:
    user = authenticate(session_token())
    assert user.is_authenticated
    assert user.is_active
    assert not user.is_anonymous
    assert not user.is_staff
    assert not user.is_superuser
    assert not user.has_perm("tenants.view_tenant")
    assert not user.has_perms(["tenants.view_tenant"])
    assert not user.has_module_perms("tenants")
    assert user.pk == user.id == user.get_username() == str(user) == USER_ID


@pytest.mark.parametrize("headers", [{"typ": None}, {"cat": None}, {"cat": "cl_I7d4PD111III"}, {"new": "x"}])
def test_session_token_with_optional_or_unknown_headers_is_accepted(
    authenticate: Authenticate, headers: dict[str, Any]
) -> None:
    assert authenticate(session_token(headers=headers)).clerk_user_id == USER_ID


@pytest.mark.parametrize("seconds", [{"exp": -3}, {"nbf": 3}, {"iat": 3}])
def test_session_token_within_the_clock_skew_is_accepted(
    authenticate: Authenticate, seconds: dict[str, int]
) -> None:
    now = int(time.time())
    moved: dict[str, Any] = {name: now + offset for name, offset in seconds.items()}
    assert authenticate(session_token(**moved)).clerk_user_id == USER_ID


@pytest.mark.parametrize(
    ("claim", "seconds", "code"),
    [
        ("exp", -10, "token_expired"),
        ("nbf", 30, "token_not_active_yet"),
        ("iat", 30, "token_not_active_yet"),
    ],
)
def test_session_token_out_of_time_is_refused(
    refusal_code: RefusalCode, claim: str, seconds: int, code: str
) -> None:
    moved: dict[str, Any] = {claim: int(time.time()) + seconds}
    assert refusal_code(session_token(**moved)) == code


@pytest.mark.parametrize("claim", ["exp", "sub"])
def test_session_token_without_a_required_claim_is_refused(refusal_code: RefusalCode, claim: str) -> None:
    removed: dict[str, Any] = {claim: None}
    assert refusal_code(session_token(**removed)) == "token_invalid"


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": 7},
        {"sub": ["user_1"]},
        {"sid": 7},
        {"sid": ""},
        {"exp": "soon"},
        {"exp": {}},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"iat": "x"},
        {"nbf": []},
        {"jti": 5},
        {"sts": 1},
        {"sts": "suspended"},
        {"o": "org_1"},
        {"o": ["org_1"]},
        {"o": {}},
        {"o": {"id": 1}},
        {"o": {"id": "tenant_1"}},
        {"o": {**ORGANIZATION_V2, "rol": 1}},
        {"o": {**ORGANIZATION_V2, "slg": []}},
        {"o": {**ORGANIZATION_V2, "per": 3}},
        {"o": {**ORGANIZATION_V2, "fpm": 3}},
        {"o": ORGANIZATION_V2, "fea": 3},
        {"v": 1, "org_id": 5},
        {"v": 1, **ORGANIZATION_V1, "org_permissions": "org:a:b"},
        {"v": 1, **ORGANIZATION_V1, "org_permissions": [1]},
    ],
)
def test_session_token_with_claims_of_the_wrong_type_is_refused(
    refusal_code: RefusalCode, claims: dict[str, Any]
) -> None:
    assert refusal_code(session_token(**claims)) == "token_invalid"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: session_token(headers={"cat": "cl_B7d4PD222AAA"}), id="template category"),
        pytest.param(lambda: session_token(headers={"cat": "cl_B7d4PD333AAA"}), id="machine category"),
        pytest.param(lambda: session_token(headers={"cat": 5}), id="odd category"),
        pytest.param(lambda: session_token(headers={"typ": "at+jwt"}), id="OAuth access token"),
        pytest.param(lambda: session_token(headers={"typ": 5}), id="odd type"),
        pytest.param(
            lambda: session_token(headers={"cat": None}, sid=None), id="template without a category"
        ),
        pytest.param(lambda: session_token(sub="mch_2bQv0Zy8bXr4t6nM1kJp9sLdEaA"), id="machine"),
        pytest.param(lambda: session_token(sub="user_"), id="user without an id"),
        pytest.param(lambda: session_token(sub="user_a/../b"), id="user id that is a path"),
        pytest.param(lambda: session_token(v=3), id="unknown version"),
        pytest.param(lambda: session_token(v="2"), id="version as text"),
    ],
)
def test_token_of_another_class_is_refused(refusal_code: RefusalCode, token: Any) -> None:
    assert refusal_code(token()) == "token_type_not_supported"


def test_template_token_without_a_session_is_refused_by_its_type(refusal_code: RefusalCode) -> None:
    token = session_token(headers={"cat": None}, sid=None, v=None, sts=None, aud="https://api.example.com")
    assert refusal_code(token) == "token_type_not_supported"


AUDIENCES: list[Any] = [
    "https://api.example.com",
    ["https://api.example.com"],
    ["a", "https://api.example.com"],
]


@pytest.mark.parametrize("audience", [*AUDIENCES, "other", [], None])
def test_audience_when_not_pinned_may_be_any(authenticate: Authenticate, audience: Any) -> None:
    assert authenticate(session_token(aud=audience)).clerk_user_id == USER_ID


@pytest.mark.parametrize("audience", AUDIENCES)
def test_audience_when_pinned_admits_tokens_that_name_it(
    authenticate: Authenticate, settings: Settings, audience: Any
) -> None:
    settings.CLERK_AUDIENCE = [" https://api.example.com ", "https://other.example.com"]
    assert authenticate(session_token(aud=audience)).clerk_user_id == USER_ID


@pytest.mark.parametrize("audience", ["https://api.example.com/", ["other"], [], None])
def test_audience_when_pinned_refuses_other_tokens(
    refusal_code: RefusalCode, settings: Settings, audience: Any
) -> None:
    settings.CLERK_AUDIENCE = ["https://api.example.com"]
    assert refusal_code(session_token(aud=audience)) == "token_invalid_audience"


@pytest.mark.parametrize("audience", [5, {"a": 1}, [1], [["a"]]])
def test_audience_of_the_wrong_type_is_refused(refusal_code: RefusalCode, audience: Any) -> None:
    assert refusal_code(session_token(aud=audience)) == "token_invalid"


@pytest.mark.parametrize(("skew", "accepted"), [("0", False), ("5", False), ("20", True), ("no", False)])
def test_clock_skew_is_a_setting(
    authenticate: Authenticate, refusal_code: RefusalCode, settings: Settings, skew: str, accepted: bool
) -> None:
    settings.CLERK_CLOCK_SKEW_SECONDS = skew
    token = session_token(exp=int(time.time()) - 10)
    if accepted:
        assert authenticate(token).clerk_user_id == USER_ID
    else:
        assert refusal_code(token) == "token_expired"


@pytest.mark.parametrize(
    ("azp", "reason"), [(None, "native apps"), ("https://evil.example", "is not in this server's setting")]
)
def test_authorized_parties_refusal_names_the_claim_the_setting_and_the_reason(
    authenticate: Authenticate, settings: Settings, azp: str | None, reason: str
) -> None:
    settings.CLERK_AUTHORIZED_PARTIES = ["https://app.example.com"]
    with pytest.raises(SessionTokenError, match="CLERK_AUTHORIZED_PARTIES") as refused:
        authenticate(session_token(azp=azp))
    assert "`azp`" in str(refused.value)
    assert reason in str(refused.value)


def test_token_signed_with_another_key_is_refused(refusal_code: RefusalCode) -> None:
    assert refusal_code(forged_token()) == "token_invalid_signature"


def test_token_with_changed_claims_is_refused(refusal_code: RefusalCode) -> None:
    header, _, signature = session_token().split(".")
    _, claims, _ = session_token(sub="user_somebodyElse").split(".")
    assert refusal_code(f"{header}.{claims}.{signature}") == "token_invalid_signature"


def test_token_without_a_signature_is_refused(refusal_code: RefusalCode) -> None:
    header, claims, _ = session_token().split(".")
    assert refusal_code(f"{header}.{claims}.") == "token_invalid_signature"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 5, ["RS256"]])
def test_unsigned_token_is_refused(refusal_code: RefusalCode, algorithm: Any) -> None:
    token = handmade_token({"alg": algorithm, "typ": "JWT", "kid": KID}, session_claims())
    assert refusal_code(token) == "token_invalid_algorithm"


def test_token_signed_with_the_public_key_as_a_secret_is_refused(refusal_code: RefusalCode) -> None:
    public = public_pem().encode()
    unsigned = handmade_token({"alg": "HS256", "typ": "JWT", "kid": KID}, session_claims()).rstrip(".")
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        unsigned.encode(), public
    )
    encoded = jwt.utils.base64url_encode(signature).decode()
    assert refusal_code(f"{unsigned}.{encoded}") == "token_invalid_algorithm"


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_token_signed_with_the_right_key_and_another_algorithm_is_refused(
    refusal_code: RefusalCode, algorithm: str
) -> None:
    token = jwt.encode(session_claims(), private_key(KID), algorithm=algorithm, headers={"kid": KID})
    assert refusal_code(token) == "token_invalid_algorithm"


def test_token_signed_with_an_elliptic_curve_is_refused(refusal_code: RefusalCode) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode(session_claims(), key, algorithm="ES256", headers={"kid": KID})
    assert refusal_code(token) == "token_invalid_algorithm"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "garbage",
        "sk_test_key",
        "é" * 3,
        "\ud800",
        "\x00",
        "a" * (16 * 1024 + 1),
        handmade_token({}, {}, b"x").replace("e30", "W10", 1),
        handmade_token({"alg": "RS256", "crit": ["x"], "kid": KID}, session_claims(), b"x"),
        handmade_token({"alg": "RS256", "b64": False, "crit": ["b64"], "kid": KID}, session_claims(), b"x"),
        handmade_token({"alg": "RS256", "kid": 5}, session_claims(), b"x"),
    ],
)
def test_garbage_is_refused(refusal_code: RefusalCode, token: str) -> None:
    assert refusal_code(token) == "token_invalid"


def test_claims_that_are_no_object_are_refused(refusal_code: RefusalCode) -> None:
    token = jwt.api_jws.encode(b"[1]", private_key(KID), algorithm="RS256", headers={"kid": KID})
    assert refusal_code(token) == "token_invalid"


@pytest.mark.parametrize(
    "change", ["{token}==", "{token}!", "{token}\n", " {token}", "{token}.", "{start}{next}"]
)
def test_token_in_another_encoding_is_refused(refusal_code: RefusalCode, change: str) -> None:
    """The last character of a signature holds four bits that mean nothing: 16 texts decode alike."""
    token = session_token()
    changed = change.format(token=token, start=token[:-1], next=chr(ord(token[-1]) + 1))
    assert refusal_code(changed) == "token_invalid"


@pytest.mark.parametrize("length", range(0, 40, 7))
def test_token_cut_short_is_refused(refusal_code: RefusalCode, length: int) -> None:
    assert refusal_code(session_token()[:length]) == "token_invalid"


ODD_VALUES: list[Any] = [None, True, 0, -1, 2, 10**400, 1.5, "", "x", "\x00", [], [[]], {}, {"id": {}}]


@pytest.mark.parametrize(
    "claim", ["sub", "sid", "exp", "iat", "nbf", "azp", "iss", "sts", "v", "o", "fea", "aud", "org_id", "jti"]
)
def test_odd_value_of_a_claim_signs_in_or_is_refused_without_another_error(
    authenticate: Authenticate, settings: Settings, claim: str
) -> None:
    settings.CLERK_ISSUER = ISSUER
    settings.CLERK_AUTHORIZED_PARTIES = ["https://app.example.com"]
    for value in ODD_VALUES:
        claims = json.dumps({**session_claims(), claim: value}).encode()
        token = jwt.api_jws.encode(claims, private_key(KID), algorithm="RS256", headers={"kid": KID})
        with suppress(SessionTokenError):
            user = authenticate(token)
            assert user == ClerkUser(clerk_user_id=USER_ID, session_id=user.session_id), value


@pytest.mark.parametrize("configured", [ISSUER, f"{ISSUER}/", f" {ISSUER} "])
@pytest.mark.parametrize("issuer", [ISSUER, f"{ISSUER}/"])
def test_issuer_when_pinned_admits_its_tokens(
    authenticate: Authenticate, settings: Settings, configured: str, issuer: str
) -> None:
    settings.CLERK_ISSUER = configured
    assert authenticate(session_token(iss=issuer)).clerk_user_id == USER_ID


@pytest.mark.parametrize(
    "issuer", ["https://clerk.example.com.evil.example", "http://clerk.example.com", None]
)
def test_issuer_when_pinned_refuses_other_issuers(
    refusal_code: RefusalCode, settings: Settings, issuer: str | None
) -> None:
    settings.CLERK_ISSUER = ISSUER
    assert refusal_code(session_token(iss=issuer)) == "token_invalid_issuer"


def test_issuer_when_not_pinned_is_not_looked_at(authenticate: Authenticate) -> None:
    assert authenticate(session_token(iss=None)).clerk_user_id == USER_ID


@pytest.mark.parametrize("parties", [[], [""], [" ", ""]])
def test_authorized_parties_when_empty_count_as_unset(
    authenticate: Authenticate, settings: Settings, parties: list[str]
) -> None:
    settings.CLERK_AUTHORIZED_PARTIES = parties
    assert authenticate(session_token(azp=None)).clerk_user_id == USER_ID


def test_authorized_parties_admit_the_origins_they_list(
    authenticate: Authenticate, settings: Settings
) -> None:
    settings.CLERK_AUTHORIZED_PARTIES = ["https://other.example.com", "https://app.example.com"]
    assert authenticate(session_token()).clerk_user_id == USER_ID


@pytest.mark.parametrize(
    "azp", ["https://app.example.com/", "https://APP.example.com", "https://evil.example", None]
)
def test_authorized_parties_refuse_every_other_origin(
    refusal_code: RefusalCode, settings: Settings, azp: str | None
) -> None:
    settings.CLERK_AUTHORIZED_PARTIES = ["https://app.example.com"]
    assert refusal_code(session_token(azp=azp)) == "token_invalid_authorized_parties"


def test_pending_session_is_refused_with_its_own_code(authenticate: Authenticate) -> None:
    with pytest.raises(SessionPending, match="task to finish") as refused:
        authenticate(session_token(sts="pending"))
    assert refused.value.code == "session_pending"


def test_pending_session_is_admitted_where_asked_for(authenticate: Authenticate) -> None:
    user = authenticate(session_token(sts="pending"), admit_pending=True)
    assert user == ClerkUser(clerk_user_id=USER_ID, session_id=SESSION_ID, is_pending=True)


def test_pending_session_admitted_is_still_verified(authenticate: Authenticate, settings: Settings) -> None:
    settings.CLERK_ISSUER = "https://clerk.elsewhere.example"
    with pytest.raises(SessionTokenError) as refused:
        authenticate(session_token(sts="pending"), admit_pending=True)
    assert refused.value.code == "token_invalid_issuer"
