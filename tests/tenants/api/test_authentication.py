"""Authentication of API requests, and the status, shape and headers of every error."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import DisallowedHost, PermissionDenied, SuspiciousOperation
from django.core.handlers.exception import response_for_exception
from django.http import Http404
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.views import APIView

from clerk_integration.exceptions import (
    ClerkError,
    ClerkMisconfigured,
    ClerkNotFound,
    ClerkProtocolError,
    ClerkRateLimited,
    ClerkRejected,
    ClerkUnavailable,
    InvalidClerkId,
)
from tenants.api.errors import create_failure
from tenants.exceptions import (
    AbsorbRefused,
    AlreadyLinked,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    NotAMember,
    OrganizationDeleted,
    TenantError,
    TenantInactive,
    UnknownOrganization,
)
from tests.jwks_server import JwksServer, running_jwks_server
from tests.tokens import USER_ID, forged_token, public_pem, session_token

UNKNOWN_URL = "/api/v1/nowhere"


class WhoAmI(APIView):
    """Returns the caller's name; admits pending sessions if configured so."""

    admits_pending_sessions = False

    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user)})

    def post(self, request: Request) -> Response:
        return Response({"user": str(request.user), "body": request.data})


class Failing(APIView):
    """Raises its `error`."""

    authentication_classes = ()
    permission_classes = ()
    error: Exception = Exception()

    def get(self, request: Request) -> Response:
        raise self.error


@pytest.fixture
def jwt_key(settings: Settings) -> None:
    settings.CLERK_JWT_KEY = public_pem()


@pytest.fixture
def jwks(settings: Settings) -> Iterator[JwksServer]:
    with running_jwks_server() as server:
        settings.CLERK_SECRET_KEY = "sk_test_of_this_test"
        settings.CLERK_API_URL = server.api_url
        yield server


def ask(authorization: str | None = None, **attributes: Any) -> Response:
    """Return the rendered response of WhoAmI to a GET with this Authorization header."""
    headers = {} if authorization is None else {"authorization": authorization}
    request = APIRequestFactory().get("/api/v1/whoami", headers=headers)
    return rendered(WhoAmI.as_view(**attributes)(request))


def answer_to(error: Exception) -> Response:
    return rendered(Failing.as_view(error=error)(APIRequestFactory().get("/api/v1/failing")))


def rendered(response: Any) -> Response:
    """Render and return the response of a DRF view."""
    assert isinstance(response, Response)
    response.render()
    return response


def error_of(response: Response) -> dict[str, Any]:
    """Return the only error of a response; check its shape."""
    assert response["Content-Type"] == "application/json"
    assert set(response.data) == {"type", "errors"}
    (error,) = response.data["errors"]
    assert set(error) == {"code", "detail", "attr"}
    return dict(error)


def test_bearer_token_signs_in_without_any_query(
    jwt_key: None, django_assert_num_queries: DjangoAssertNumQueries, db: None
) -> None:
    with django_assert_num_queries(0):
        response = ask(f"Bearer {session_token()}")
    assert response.data == {"user": USER_ID}


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
def test_bearer_scheme_is_case_insensitive(jwt_key: None, scheme: str) -> None:
    assert ask(f"{scheme} {session_token()}").data == {"user": USER_ID}


@pytest.mark.parametrize("header", [None, "", "Basic dXNlcjpwYXNz", "Token abc", "abc", "BearerX abc"])
def test_request_without_a_bearer_token_is_not_signed_in(jwt_key: None, header: str | None) -> None:
    response = ask(header)
    assert response.status_code == status.HTTP_401_UNAUTHORIZED
    assert response["WWW-Authenticate"] == "Bearer"
    assert error_of(response)["code"] == "not_authenticated"


def test_session_cookie_of_clerk_is_not_read(jwt_key: None) -> None:
    client = APIClient()
    client.cookies["__session"] = session_token()
    request = APIRequestFactory().get("/", HTTP_COOKIE=client.cookies.output(header="", sep=";").strip())
    assert rendered(WhoAmI.as_view()(request)).status_code == status.HTTP_401_UNAUTHORIZED


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b", "Bearer é", f"Bearer {'a' * (16 * 1024 + 1)}"],
)
def test_malformed_authorization_header_has_its_own_code(jwt_key: None, header: str) -> None:
    response = ask(header)
    assert response.status_code == status.HTTP_401_UNAUTHORIZED
    assert response["WWW-Authenticate"] == "Bearer"
    assert error_of(response)["code"] == "authorization_header_format_invalid"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (lambda: "garbage", "token_invalid"),
        (forged_token, "token_invalid_signature"),
        (lambda: session_token(exp=1), "token_expired"),
        (lambda: session_token(sid=None), "token_type_not_supported"),
        (lambda: session_token(sts="pending"), "session_pending"),
    ],
)
def test_refused_token_is_401_with_its_code_and_a_challenge(
    jwt_key: None, token: Callable[[], str], code: str
) -> None:
    header = f"Bearer {token()}"
    for response in (ask(header), ask(header)):
        assert response.status_code == status.HTTP_401_UNAUTHORIZED
        assert response["WWW-Authenticate"] == "Bearer"
        assert response.data["type"] == "client_error"
        assert error_of(response)["code"] == code


@pytest.mark.parametrize(
    ("setting", "admits", "status_code"),
    [("create", True, 200), ("create", False, 401), ("refuse", True, 401), ("", True, 401)],
)
def test_pending_session_is_admitted_only_where_view_and_setting_agree(
    jwt_key: None, settings: Settings, setting: str, admits: bool, status_code: int
) -> None:
    settings.CLERK_PENDING_SESSIONS = setting
    response = ask(f"Bearer {session_token(sts='pending')}", admits_pending_sessions=admits)
    assert response.status_code == status_code


def test_pending_session_where_it_could_be_admitted_names_the_setting(jwt_key: None) -> None:
    response = ask(f"Bearer {session_token(sts='pending')}", admits_pending_sessions=True)
    assert "CLERK_PENDING_SESSIONS=create" in error_of(response)["detail"]


@pytest.mark.parametrize("failure", [500, 429, 404])
def test_clerk_failing_before_any_key_is_known_is_503_with_the_wait(jwks: JwksServer, failure: int) -> None:
    jwks.status = failure
    response = ask(f"Bearer {session_token()}")
    assert response.status_code == status.HTTP_503_SERVICE_UNAVAILABLE
    assert 0 < int(response["Retry-After"]) <= 60
    assert "WWW-Authenticate" not in response
    assert error_of(response)["code"] == "clerk_unavailable"


def test_misconfigured_server_is_500_that_shows_no_setting(settings: Settings) -> None:
    settings.CLERK_JWT_KEY = "not a key"
    response = ask(f"Bearer {session_token()}")
    assert response.status_code == status.HTTP_500_INTERNAL_SERVER_ERROR
    error = error_of(response)
    assert error["code"] == "clerk_misconfigured"
    assert "not a key" not in error["detail"]


# --- Django's session -------------------------------------------------------------------------------


@pytest.fixture
def session_client(db: None) -> Callable[..., Client]:
    """Return a function that signs a Django user with the given attributes in to a client."""

    def build(**attributes: bool) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.create(username="person", **attributes))
        return client

    return build


def through_the_session(client: Client, method: str = "GET") -> Response:
    """Return the response of WhoAmI to a request that carries the client's session."""
    from importlib import import_module

    from django.conf import settings as django_settings
    from django.contrib.auth import get_user

    request = APIRequestFactory(enforce_csrf_checks=True).generic(
        method, "/", content_type="application/json"
    )
    engine = import_module(django_settings.SESSION_ENGINE)
    request.session = engine.SessionStore(client.cookies[django_settings.SESSION_COOKIE_NAME].value)
    request.user = get_user(request)
    return rendered(WhoAmI.as_view()(request))


def test_session_of_staff_is_signed_in(session_client: Callable[..., Client]) -> None:
    assert through_the_session(session_client(is_staff=True)).data == {"user": "person"}


@pytest.mark.parametrize("attributes", [{}, {"is_superuser": True}, {"is_staff": True, "is_active": False}])
def test_session_of_a_user_who_is_not_active_staff_is_not_signed_in(
    session_client: Callable[..., Client], attributes: dict[str, bool]
) -> None:
    response = through_the_session(session_client(**attributes))
    assert response.status_code == status.HTTP_401_UNAUTHORIZED
    assert response["WWW-Authenticate"] == "Bearer"


def test_session_of_staff_without_csrf_token_may_not_write(session_client: Callable[..., Client]) -> None:
    response = through_the_session(session_client(is_staff=True), "POST")
    assert response.status_code == status.HTTP_403_FORBIDDEN
    assert "CSRF" in error_of(response)["detail"]


def test_refused_token_beside_a_session_of_staff_does_not_fall_back_to_it(
    jwt_key: None, session_client: Callable[..., Client]
) -> None:
    client = session_client(is_staff=True)
    response = client.get("/api/v1/tenants/1", headers={"authorization": f"Bearer {forged_token()}"})
    assert response.status_code == status.HTTP_401_UNAUTHORIZED


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "head"])
@pytest.mark.parametrize(
    "url", [UNKNOWN_URL, "/api", "/api/", "/api/v2/tenants", "/api/v1/tenants/create/", "/api/%0A"]
)
def test_unknown_url_of_the_api_is_404_in_the_error_shape(client: Client, url: str, method: str) -> None:
    response = getattr(client, method)(url)
    assert response.status_code == status.HTTP_404_NOT_FOUND
    assert response["Content-Type"] == "application/json"
    if method != "head":
        assert response.json()["errors"][0]["code"] == "not_found"


@pytest.mark.usefixtures("jwt_key")
@pytest.mark.parametrize(
    ("method", "content_type", "body", "code"),
    [
        ("POST", "application/json", b"{", "parse_error"),
        ("POST", "application/json", b"\xff", "parse_error"),
        ("POST", "application/x-yaml", b"a: 1", "unsupported_media_type"),
        ("DELETE", "application/json", b"", "method_not_allowed"),
    ],
)
def test_request_with_a_bad_body_or_method_is_answered_in_the_error_shape(
    method: str, content_type: str, body: bytes, code: str
) -> None:
    statuses = {"parse_error": 400, "unsupported_media_type": 415, "method_not_allowed": 405}
    authorization: dict[str, Any] = {"authorization": f"Bearer {session_token()}"}
    request = RequestFactory().generic(method, "/", body, content_type, headers=authorization)
    response = rendered(WhoAmI.as_view()(request))
    assert response.status_code == statuses[code]
    assert error_of(response)["code"] == code


@pytest.mark.parametrize(
    ("error", "status_code", "code"),
    [
        (DisallowedHost("evil.example"), 400, "bad_request"),
        (SuspiciousOperation("x"), 400, "bad_request"),
        (PermissionDenied("x"), 403, "permission_denied"),
        (Http404("x"), 404, "not_found"),
        (RuntimeError("x"), 500, "error"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/tenants/1", "/api", "/admin/"])
def test_exception_outside_the_views_is_answered_in_the_error_shape_under_api(
    rf: RequestFactory, path: str, error: Exception, status_code: int, code: str
) -> None:
    response = response_for_exception(rf.get(path), error)
    assert response.status_code == status_code
    if path == "/admin/":
        assert response["Content-Type"].startswith("text/html")
    else:
        [problem] = json.loads(response.content)["errors"]
        assert (problem["code"], problem["attr"]) == (code, None)


@pytest.mark.parametrize("path", ["/api/v1/tenants/1", UNKNOWN_URL, "/api/v1/webhooks/clerk"])
def test_request_for_an_unknown_host_is_400_in_the_error_shape(client: Client, path: str) -> None:
    response = client.get(path, headers={"host": "evil.example"})
    assert response.status_code == status.HTTP_400_BAD_REQUEST
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert (body["type"], body["errors"][0]["code"]) == ("client_error", "bad_request")
    assert "evil.example" not in response.text


@pytest.mark.usefixtures("jwt_key")
def test_request_with_thousands_of_parameters_is_400_in_the_error_shape(client: Client) -> None:
    bearer = {"authorization": f"Bearer {session_token()}"}
    response = client.get("/api/v1/tenants/me/get-tenants?" + "a=1&" * 2000, headers=bearer)
    assert response.status_code == status.HTTP_400_BAD_REQUEST
    assert response.json()["errors"][0]["code"] == "bad_request"


@pytest.mark.parametrize("debug", [True, False])
def test_unexpected_exception_is_500_in_the_error_shape(settings: Settings, debug: bool) -> None:
    settings.DEBUG = debug
    response = answer_to(RuntimeError("the secret cause"))
    assert response.status_code == status.HTTP_500_INTERNAL_SERVER_ERROR
    assert response.data["type"] == "server_error"
    assert error_of(response) == {"code": "error", "detail": "Server Error (500)", "attr": None}


@pytest.mark.parametrize(
    ("error", "status_code", "code"),
    [
        (ClerkUnavailable("x"), 503, "clerk_unavailable"),
        (ClerkProtocolError("x"), 503, "clerk_unavailable"),
        (ClerkRateLimited("x", retry_after=2.2), 503, "clerk_rate_limited"),
        (ClerkMisconfigured("x"), 500, "clerk_misconfigured"),
        (ClerkNotFound("x"), 404, "not_found"),
        (InvalidClerkId("x"), 400, "invalid"),
    ],
)
def test_clerk_error_raised_by_a_view_becomes_an_api_error(
    error: ClerkError, status_code: int, code: str
) -> None:
    response = answer_to(error)
    assert response.status_code == status_code
    assert error_of(response)["code"] == code
    assert response.get("Retry-After") == ("3" if isinstance(error, ClerkRateLimited) else None)


@pytest.mark.parametrize(
    ("error", "status_code", "code"),
    [
        (TenantInactive("x"), 409, "tenant_inactive"),
        (OrganizationDeleted("x"), 409, "organization_deleted"),
        (AlreadyLinked("x"), 409, "already_linked"),
        (AbsorbRefused("x", reasons=["y"]), 409, "absorb_refused"),
        (IdempotencyKeyInUse("x", retry_after=9), 409, "idempotency_key_in_use"),
        (IdempotencyKeyReused("x"), 409, "idempotency_key_reused"),
        (NotAMember("x"), 404, "not_found"),
        (UnknownOrganization("x"), 400, "unknown_organization"),
    ],
)
def test_tenant_error_raised_by_a_view_becomes_an_api_error(
    error: TenantError, status_code: int, code: str
) -> None:
    response = answer_to(error)
    assert response.status_code == status_code
    assert error_of(response)["code"] == code
    assert response.get("Retry-After") == ("9" if isinstance(error, IdempotencyKeyInUse) else None)


@pytest.mark.parametrize(
    ("error", "code", "outcome"),
    [
        (ClerkUnavailable("10.0.0.7 refused"), "clerk_unavailable", "may have created it"),
        (ClerkUnavailable("x", outcome_unknown=False), "clerk_unavailable", "Nothing was created"),
        (ClerkProtocolError("x"), "clerk_unavailable", "may have created it"),
        (ClerkRateLimited("x", retry_after=7), "clerk_rate_limited", "Nothing was created"),
        (ClerkMisconfigured("sk_test_key refused"), "clerk_misconfigured", "Nothing was created"),
    ],
)
def test_create_failure_is_500_with_the_outcome(error: ClerkError, code: str, outcome: str) -> None:
    response = answer_to(create_failure(error))
    assert response.status_code == status.HTTP_500_INTERNAL_SERVER_ERROR
    shown = error_of(response)
    assert shown["code"] == code
    assert shown["detail"].startswith("Failed to create organization: ")
    assert outcome in shown["detail"]
    assert error.message == "x" or error.message not in shown["detail"]
    assert response.get("Retry-After") == ("7" if isinstance(error, ClerkRateLimited) else None)


@pytest.mark.parametrize(
    ("code", "param", "attr"),
    [
        ("form_identifier_exists", None, "slug"),
        ("form_already_exists", None, "slug"),
        ("organization_slugs_disabled", None, "slug"),
        ("form_param_format_invalid", "slug", "slug"),
        ("form_param_value_invalid", "name", "name"),
        ("form_param_value_invalid", "created_by", "non_field_errors"),
        ("organization_quota_exceeded", None, "non_field_errors"),
    ],
)
def test_create_failure_refused_by_clerk_is_400_on_the_field(code: str, param: str | None, attr: str) -> None:
    error = ClerkRejected("That slug is taken.", code=code, status_code=422, param=param)
    response = answer_to(create_failure(error))
    assert response.status_code == status.HTTP_400_BAD_REQUEST
    assert response.data["type"] == "validation_error"
    assert error_of(response) == {"code": code, "detail": "That slug is taken.", "attr": attr}
