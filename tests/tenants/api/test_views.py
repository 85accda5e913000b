"""The tenant endpoints, against the local Clerk."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client

from clerk_integration.wire import breaker
from tenants.lifecycle import delete
from tenants.models import CreationAttempt, Membership, Tenant, UserSync
from tenants.services import TenantService
from tenants.tasks import settle_creations
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db

DETAIL_FIELDS = {
    "id",
    "clerkOrgId",
    "name",
    "slug",
    "logoUrl",
    "status",
    "suspensionReason",
    "clerkMetadata",
    "createdAt",
    "updatedAt",
    "lastSyncedAt",
    "role",
    "isPrimary",
}


def error(response: Any) -> tuple[int, str, str | None]:
    """Return status, code and attribute of the only error; check the shape of the response."""
    body = response.json()
    assert set(body) == {"type", "errors"}
    assert len(body["errors"]) == 1, body
    [problem] = body["errors"]
    assert set(problem) == {"code", "detail", "attr"}
    return response.status_code, problem["code"], problem["attr"]


def test_create_makes_the_organization_in_clerk_and_its_tenant(sandbox: SandboxControl, ada: Caller) -> None:
    response = ada.create("Acme", slug="acme")

    assert response.status_code == 201
    tenant = response.json()
    assert set(tenant) == DETAIL_FIELDS
    organization = sandbox.api("GET", f"/organizations/{tenant['clerkOrgId']}")
    assert (organization["name"], organization["slug"]) == ("Acme", "acme")
    assert organization["created_by"] == ada.id
    assert (tenant["name"], tenant["slug"], tenant["status"]) == ("Acme", "acme", "active")
    assert (tenant["role"], tenant["isPrimary"]) == ("org:admin", True)
    assert tenant["createdAt"].endswith("Z")
    membership = Membership.objects.get(tenant_id=tenant["id"])
    assert membership.clerk_membership_id is not None
    assert [attempt.state for attempt in CreationAttempt.objects.all()] == ["succeeded"]


def test_create_with_a_custom_creator_role_uses_that_role(sandbox: SandboxControl, ada: Caller) -> None:
    sandbox.settings(creatorRole="org:member")

    assert ada.create().json()["role"] == "org:member"


def test_create_second_tenant_becomes_the_primary(ada: Caller) -> None:
    first, second = ada.create("First").json(), ada.create("Second").json()

    listed = ada.tenants().json()

    assert [(t["id"], t["isPrimary"]) for t in listed] == [(second["id"], True), (first["id"], False)]
    assert ada.get("/tenants/me/primary-id").json() == {"tenantId": second["id"]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "required", "name")),
        ({"name": ""}, (400, "blank", "name")),
        ({"name": "   "}, (400, "blank", "name")),
        ({"name": "x" * 257}, (400, "max_length", "name")),
        ({"name": 7}, (400, "invalid", "name")),
        ({"name": None}, (400, "null", "name")),
        ({"name": True}, (400, "invalid", "name")),
        ({"name": ["Acme"]}, (400, "invalid", "name")),
        ({"name": "a\x00b"}, (400, "null_characters_not_allowed", "name")),
        ({"name": "\ud800"}, (400, "surrogate_characters_not_allowed", "name")),
        ({"name": int("7" * 4000)}, (400, "invalid", "name")),
        ({"name": "Acme", "slug": "Not A Slug"}, (400, "invalid_slug", "slug")),
        ({"name": "Acme", "slug": "---"}, (400, "invalid_slug", "slug")),
        ({"name": "Acme", "slug": "a\x00b"}, (400, "invalid_slug", "slug")),
        ({"name": "Acme", "slug": "\ud800"}, (400, "invalid_slug", "slug")),
        ({"name": "Acme", "slug": 5}, (400, "invalid", "slug")),
        ({"name": "Acme", "slug": ""}, (400, "blank", "slug")),
        ({"name": "https://evil.example"}, (400, "invalid_name", "name")),
        ({"name": "<b>Acme</b>"}, (400, "invalid_name", "name")),
        ({"name": "Acme\u202etxt"}, (400, "invalid_name", "name")),
        ({"name": "Acme\nSons"}, (400, "invalid_name", "name")),
        ({"name": "\u200b"}, (400, "invalid_name", "name")),
        ("Acme", (400, "invalid", None)),
        ([], (400, "invalid", None)),
    ],
)
def test_create_with_bad_input_is_refused_and_writes_nothing(
    sandbox: SandboxControl, ada: Caller, body: Any, expected: tuple[int, str, str]
) -> None:
    response = ada.request("POST", "/tenants/create", body)

    status, code, attr = error(response)
    assert (status, code, attr if attr != "non_field_errors" else None) == expected
    assert not Tenant.objects.exists()
    assert sandbox.requests() == []


@pytest.mark.parametrize("size", [1_050_000, 3_000_000])
def test_create_with_a_huge_body_is_refused(sandbox: SandboxControl, ada: Caller, size: int) -> None:
    response = ada.create("Acme", padding="x" * size)

    assert error(response)[:2] == (413, "body_too_large")
    assert sandbox.requests() == []


def test_create_with_a_name_of_256_characters_succeeds(ada: Caller) -> None:
    assert ada.create("x" * 256).status_code == 201


def test_create_with_a_taken_slug_is_refused_on_the_slug(sandbox: SandboxControl, ada: Caller) -> None:
    sandbox.organization("Another company", slug="acme")

    response = ada.create("Acme", slug="acme")

    assert error(response)[0] == 400
    assert error(response)[2] == "slug"
    assert not Tenant.objects.exists()


def test_create_with_a_slug_where_slugs_are_disabled_is_refused_on_the_slug(
    sandbox: SandboxControl, ada: Caller
) -> None:
    sandbox.settings(slugs="disabled")

    assert error(ada.create("Acme", slug="acme")) == (400, "organization_slugs_disabled", "slug")
    assert ada.create("Acme").status_code == 201


@pytest.mark.parametrize(
    ("payload", "content_type", "expected"),
    [
        (b'{"name": ', "application/json", (400, "parse_error")),
        (b"\xff\xfe", "application/json", (400, "parse_error")),
        (b"[" * 60_000, "application/json", (400, "parse_error")),
        (b'{"name":' * 8_000, "application/json", (400, "parse_error")),
        (b'{"name": %s}' % (b"7" * 5_000), "application/json", (400, "parse_error")),
        (b'{"name": "\x00"}', "application/json", (400, "parse_error")),
        (b"name=Acme", "application/x-www-form-urlencoded", (415, "unsupported_media_type")),
    ],
)
def test_create_with_an_unreadable_body_is_refused(
    sandbox: SandboxControl, ada: Caller, payload: bytes, content_type: str, expected: tuple[int, str]
) -> None:
    response = Client().generic(
        "POST",
        "/api/v1/tenants/create",
        data=payload,
        content_type=content_type,
        headers={"Authorization": f"Bearer {sandbox.token(ada.id)}"},
    )

    assert error(response)[:2] == expected
    assert not Tenant.objects.exists()


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 401}, {"rateLimit": 7}])
def test_create_while_clerk_fails_is_500_and_leaves_no_tenant(
    sandbox: SandboxControl, ada: Caller, fault: dict[str, int]
) -> None:
    sandbox.fault("POST /v1/organizations", times=5, **fault)

    response = ada.create()

    assert response.status_code == 500
    assert response.json()["errors"][0]["detail"].startswith("Failed to create organization")
    assert response.headers.get("Retry-After") == ("7" if "rateLimit" in fault else None)
    assert not Tenant.objects.exists()
    assert len(sandbox.requests("POST", "/v1/organizations")) == 1


def test_create_whose_reply_is_lost_posts_once_and_the_next_list_adopts(
    sandbox: SandboxControl, ada: Caller
) -> None:
    assert ada.tenants().json() == []
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)

    lost = ada.create("Acme")

    assert lost.status_code == 500
    assert lost.json()["errors"][0]["detail"].startswith("Failed to create organization")
    assert not Tenant.objects.exists()
    assert CreationAttempt.objects.get().state == "unknown"

    listed = ada.tenants()
    assert listed.headers["X-Clerk-Sync"] == "synced", "a list older than the create is not fresh"
    [tenant] = listed.json()

    assert (tenant["name"], tenant["role"], tenant["isPrimary"]) == ("Acme", "org:admin", True)
    assert CreationAttempt.objects.get().state == "succeeded"
    assert len(sandbox.requests("POST", "/v1/organizations")) == 1
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_create_while_memberships_fail_stores_the_membership_with_the_next_sync(
    sandbox: SandboxControl, ada: Caller
) -> None:
    sandbox.settings(creatorRole="org:member")
    sandbox.fault("GET /v1/organizations/*/memberships", times=9, status=503)

    created = ada.create("Acme").json()
    assert created["role"] == "org:member", "the role that the instance gives to creators"
    assert Membership.objects.get().clerk_membership_id is None

    [listed] = ada.tenants().json()
    assert (listed["id"], listed["role"], listed["isPrimary"]) == (created["id"], "org:member", True)


def test_create_while_all_reads_fail_gives_the_least_role_until_the_next_sync(
    sandbox: SandboxControl, ada: Caller
) -> None:
    sandbox.fault("GET /v1/*", times=99, status=503)
    assert ada.create("Acme").json()["role"] == "org:member"

    sandbox.clear_faults()
    breaker.reset()
    assert ada.tenants().json()[0]["role"] == "org:admin"


def test_create_repeated_with_the_same_key_returns_the_same_tenant(
    sandbox: SandboxControl, ada: Caller
) -> None:
    body = {"name": "Acme"}
    first = ada.request("POST", "/tenants/create", body, **{"Idempotency-Key": "k1"})
    again = ada.request("POST", "/tenants/create", body, **{"Idempotency-Key": "k1"})

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert len(sandbox.requests("POST", "/v1/organizations")) == 1


def test_create_with_the_same_key_and_another_body_is_refused(sandbox: SandboxControl, ada: Caller) -> None:
    ada.request("POST", "/tenants/create", {"name": "Acme"}, **{"Idempotency-Key": "k1"})

    other = ada.request("POST", "/tenants/create", {"name": "Other"}, **{"Idempotency-Key": "k1"})

    assert error(other)[:2] == (409, "idempotency_key_reused")
    assert len(sandbox.requests("POST", "/v1/organizations")) == 1


def test_create_repeated_with_a_key_after_a_lost_reply_adopts_the_organization(
    sandbox: SandboxControl, ada: Caller
) -> None:
    key = {"Idempotency-Key": "k1"}
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)
    assert ada.request("POST", "/tenants/create", {"name": "Acme"}, **key).status_code == 500

    again = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    assert again.status_code == 201
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 503}, "clerk_unavailable"),
        ({"status": 401}, "clerk_misconfigured"),
        ({"status": 404}, "clerk_unavailable"),
        ({"status": 422}, "clerk_unavailable"),
        ({"rateLimit": 30}, "clerk_rate_limited"),
    ],
)
def test_create_repeated_with_a_key_while_clerk_fails_reports_an_unknown_outcome(
    sandbox: SandboxControl, ada: Caller, fault: dict[str, int], code: str
) -> None:
    key = {"Idempotency-Key": "k1"}
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)
    ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)
    sandbox.fault("GET /v1/organizations", times=9, **fault)

    again = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    assert error(again)[:2] == (500, code)
    assert "may have created it" in again.json()["errors"][0]["detail"]
    assert CreationAttempt.objects.get().state == "unknown"


def test_create_repeated_with_a_key_after_a_lost_request_is_sent_again_after_a_minute(
    sandbox: SandboxControl, ada: Caller
) -> None:
    key = {"Idempotency-Key": "k1"}
    sandbox.fault("POST /v1/organizations", status=503)
    assert ada.request("POST", "/tenants/create", {"name": "Acme"}, **key).status_code == 500

    early = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    assert error(early)[:2] == (409, "idempotency_key_in_use")
    assert 0 < int(early.headers["Retry-After"]) <= 60
    assert sandbox.api("GET", "/organizations")["total_count"] == 0

    attempt = CreationAttempt.objects.get()
    attempt.sent_at = attempt.sent_at.replace(year=attempt.sent_at.year - 1)
    attempt.save()
    assert ada.request("POST", "/tenants/create", {"name": "Acme"}, **key).status_code == 201
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_create_repeated_with_a_key_after_a_refusal_is_sent_again(
    sandbox: SandboxControl, ada: Caller
) -> None:
    taken = sandbox.organization("Another company", slug="acme")
    body, key = {"name": "Acme", "slug": "acme"}, {"Idempotency-Key": "k1"}
    assert ada.request("POST", "/tenants/create", body, **key).status_code == 400
    sandbox.api("DELETE", f"/organizations/{taken['id']}")

    assert ada.request("POST", "/tenants/create", body, **key).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9", "a\x00b", "\ud800"])
def test_create_with_an_unusable_key_is_refused(sandbox: SandboxControl, ada: Caller, key: str) -> None:
    response = ada.request("POST", "/tenants/create", {"name": "Acme"}, **{"Idempotency-Key": key})

    assert error(response)[0] == 400
    assert sandbox.requests("POST", "/v1/organizations") == []


def test_list_after_a_sync_is_fresh(sandbox: SandboxControl, ada: Caller) -> None:
    sandbox.organization("Acme", created_by=ada.id)
    first, second = ada.tenants(), ada.tenants()

    assert (first.headers["X-Clerk-Sync"], second.headers["X-Clerk-Sync"]) == ("synced", "fresh")
    assert type(first.headers["X-Clerk-Sync"]) is str, "WSGI takes nothing else"
    assert first.json() == second.json()
    assert [t["name"] for t in first.json()] == ["Acme"]
    assert len(sandbox.requests()) == 1


def test_list_without_sync_calls_no_clerk(sandbox: SandboxControl, ada: Caller) -> None:
    sandbox.organization("Acme", created_by=ada.id)

    response = ada.tenants("?sync_from_clerk=false")

    assert (response.headers["X-Clerk-Sync"], response.json()) == ("skipped", [])
    assert sandbox.requests() == []


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 401}, {"rateLimit": 30}])
def test_list_while_clerk_fails_returns_the_local_rows(
    sandbox: SandboxControl, ada: Caller, fault: dict[str, int]
) -> None:
    created = ada.create("Acme").json()
    sandbox.fault("GET /v1/users/*/organization_memberships", times=9, **fault)

    response = ada.tenants()

    assert response.status_code == 200
    assert response.headers["X-Clerk-Sync"] == "stale"
    assert [t["id"] for t in response.json()] == [created["id"]]


def test_list_of_a_user_unknown_to_clerk_retires_nothing(sandbox: SandboxControl, ada: Caller) -> None:
    created = ada.create("Acme").json()
    sandbox.fault("GET /v1/users/*/organization_memberships", status=404)

    response = ada.tenants()

    assert (response.headers["X-Clerk-Sync"], [t["id"] for t in response.json()]) == (
        "stale",
        [created["id"]],
    )


def test_list_after_leaving_an_organization_ends_the_membership(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    tenant = ada.create("Acme").json()
    sandbox.membership(tenant["clerkOrgId"], grace.id)
    assert [t["role"] for t in grace.tenants().json()] == ["org:member"]
    sandbox.api("DELETE", f"/organizations/{tenant['clerkOrgId']}/memberships/{grace.id}")
    UserSync.objects.all().delete()

    assert grace.tenants().json() == []
    assert Membership.objects.filter(clerk_user_id=grace.id, is_active=True).count() == 0
    assert grace.get(f"/tenants/{tenant['id']}").status_code == 404


def test_list_shows_legacy_and_linked_tenants(ada: Caller, legacy: Callable[..., Tenant]) -> None:
    old = legacy(members={ada.id: "owner"})
    new = ada.create("Acme").json()

    listed = ada.tenants().json()

    assert [(t["id"], t["clerkOrgId"], t["role"]) for t in listed] == [
        (new["id"], new["clerkOrgId"], "org:admin"),
        (old.pk, None, "owner"),
    ]


def test_list_inactive_tenant_is_shown_to_its_admin_on_request(
    ada: Caller, grace: Caller, legacy: Callable[..., Tenant]
) -> None:
    tenant = legacy(members={ada.id: "admin", grace.id: "member"}, status="suspended")

    assert ada.tenants().json() == []
    assert [t["id"] for t in ada.tenants("?active_only=false").json()] == [tenant.pk]
    assert grace.tenants("?active_only=false").json() == []


@pytest.mark.parametrize("query", ["?sync_from_clerk=maybe", "?active_only=2"])
def test_list_with_a_malformed_parameter_is_refused(ada: Caller, query: str) -> None:
    assert error(ada.tenants(query))[:2] == (400, "invalid")


def test_primary_id_without_any_tenant_is_404(ada: Caller) -> None:
    assert error(ada.get("/tenants/me/primary-id"))[:2] == (404, "not_found")


def test_primary_id_without_a_flag_is_the_earliest_joined(ada: Caller, legacy: Callable[..., Tenant]) -> None:
    first = legacy("First", {ada.id: "member"})
    legacy("Second", {ada.id: "member"})

    assert ada.get("/tenants/me/primary-id").json() == {"tenantId": first.pk}


def test_retrieve_is_found_for_members_only(ada: Caller, grace: Caller) -> None:
    tenant = ada.create("Acme").json()

    assert ada.get(f"/tenants/{tenant['id']}").json() == tenant
    assert error(grace.get(f"/tenants/{tenant['id']}"))[:2] == (404, "not_found")
    assert error(grace.get("/tenants/99999999999999999999999"))[:2] == (404, "not_found")


def test_retrieve_never_shows_private_metadata(sandbox: SandboxControl, ada: Caller) -> None:
    tenant = ada.create("Acme").json()
    sandbox.api(
        "PATCH",
        f"/organizations/{tenant['clerkOrgId']}/metadata",
        {"public_metadata": {"snake_case": {"camelCase": 1}}, "private_metadata": {"secret": "s3cret"}},
    )

    [listed] = ada.tenants().json()

    assert listed["clerkMetadata"] == {"snake_case": {"camelCase": 1}}
    assert "s3cret" not in ada.get(f"/tenants/{tenant['id']}").text


def test_set_primary_moves_the_callers_primary_only(
    ada: Caller, grace: Caller, legacy: Callable[..., Tenant]
) -> None:
    shared = legacy("Shared", {ada.id: "member", grace.id: "member"})
    own = ada.create("Own").json()

    response = ada.request("PATCH", f"/tenants/{shared.pk}/set-primary")

    assert response.status_code == 200
    assert (response.json()["id"], response.json()["isPrimary"]) == (shared.pk, True)
    assert [t["id"] for t in ada.tenants().json()] == [shared.pk, own["id"]]
    flagged = Membership.objects.filter(is_primary=True).values_list("clerk_user_id", flat=True)
    assert list(flagged) == [ada.id]


def test_set_primary_of_a_foreign_tenant_is_404_and_of_an_inactive_tenant_409(
    ada: Caller, grace: Caller, legacy: Callable[..., Tenant]
) -> None:
    suspended = legacy(members={ada.id: "admin"}, status="suspended")

    assert error(grace.request("PATCH", f"/tenants/{suspended.pk}/set-primary"))[:2] == (404, "not_found")
    assert error(ada.request("PATCH", f"/tenants/{suspended.pk}/set-primary"))[:2] == (409, "tenant_inactive")
    assert not Membership.objects.filter(is_primary=True).exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/tenants/create"),
        ("GET", "/api/v1/tenants/me/get-tenants"),
        ("GET", "/api/v1/tenants/me/primary-id"),
    ],
)
def test_staff_session_where_a_clerk_user_is_required_is_403(client: Client, method: str, path: str) -> None:
    client.force_login(User.objects.create_superuser("root"))

    assert error(client.generic(method, path))[:2] == (403, "clerk_user_required")


def test_retrieve_by_staff_requires_the_permission(client: Client, legacy: Callable[..., Tenant]) -> None:
    tenant = legacy()
    staff = User.objects.create_user("staff", is_staff=True)
    client.force_login(staff)
    assert client.get(f"/api/v1/tenants/{tenant.pk}").status_code == 404

    staff.user_permissions.add(Permission.objects.get(codename="view_tenant"))

    response = client.get(f"/api/v1/tenants/{tenant.pk}")
    assert (response.status_code, response.json()["role"]) == (200, None)


@pytest.mark.parametrize(
    "variant",
    [
        {"expiresIn": -60},
        {"signature": "forged"},
        {"signature": "none"},
        {"variant": "template"},
        {"variant": "oauth"},
        {"variant": "machine"},
        {"claims": {"iss": "https://clerk.elsewhere.example"}},
        {"claims": {"sts": "pending"}},
    ],
)
def test_create_with_an_invalid_token_is_401_and_writes_nothing(
    sandbox: SandboxControl, ada: Caller, variant: dict[str, Any]
) -> None:
    token = sandbox.token(ada.id, **variant)

    response = Client().post(
        "/api/v1/tenants/create",
        {"name": "Acme"},
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )

    status, code, _ = error(response)
    assert status == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert (code == "session_pending") == ("sts" in variant.get("claims", {}))
    assert not Tenant.objects.exists()
    assert sandbox.requests() == []


def test_pending_sessions_are_admitted_to_create_and_list_only_where_configured(
    sandbox: SandboxControl, ada: Caller, settings: Any
) -> None:
    settings.CLERK_PENDING_SESSIONS = "create"
    bearer = {"Authorization": f"Bearer {sandbox.token(ada.id, claims={'sts': 'pending'})}"}
    http = Client()

    created = http.post(
        "/api/v1/tenants/create", {"name": "Acme"}, content_type="application/json", headers=bearer
    )
    listed = http.get("/api/v1/tenants/me/get-tenants", headers=bearer)
    other = http.get("/api/v1/tenants/me/primary-id", headers=bearer)

    assert (created.status_code, listed.status_code) == (201, 200)
    assert error(other)[:2] == (401, "session_pending")


@pytest.mark.parametrize("status", ["active", "suspended"])
def test_create_repeated_with_a_key_by_a_removed_creator_is_404(
    sandbox: SandboxControl, ada: Caller, grace: Caller, status: str
) -> None:
    key = {"Idempotency-Key": "k1"}
    tenant = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key).json()
    sandbox.membership(tenant["clerkOrgId"], grace.id, "org:admin")
    sandbox.api("DELETE", f"/organizations/{tenant['clerkOrgId']}/memberships/{ada.id}")
    TenantService.refresh_from_clerk(Tenant.objects.get())
    Tenant.objects.update(status=status)

    assert ada.request("POST", "/tenants/create", {"name": "Acme"}, **key).status_code == 404


@pytest.mark.parametrize("row_is_kept", [True, False])
def test_create_repeated_with_a_key_after_the_deletion_is_409(
    sandbox: SandboxControl, ada: Caller, row_is_kept: bool
) -> None:
    key = {"Idempotency-Key": "k1"}
    created = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key).json()
    sandbox.api("DELETE", f"/organizations/{created['clerkOrgId']}")
    tenant = TenantService.refresh_from_clerk(Tenant.objects.get())
    if not row_is_kept:
        delete.delete(tenant, acting_user=None)

    replayed = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    assert error(replayed)[:2] == (409, "organization_deleted")
    assert "new Idempotency-Key" in replayed.json()["errors"][0]["detail"]
    assert len(sandbox.requests("POST", "/v1/organizations")) == 1
    assert (
        ada.request("POST", "/tenants/create", {"name": "Acme"}, **{"Idempotency-Key": "k2"}).status_code
        == 201
    )


@pytest.mark.parametrize("creator_role", ["org:admin", "org:member"])
def test_create_repeated_with_a_key_after_the_suspension_is_409(
    sandbox: SandboxControl, ada: Caller, creator_role: str
) -> None:
    sandbox.settings(creatorRole=creator_role)
    key = {"Idempotency-Key": "k1"}
    ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)
    Tenant.objects.update(status="suspended")

    replayed = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    assert error(replayed)[:2] == (409, "tenant_inactive")
    assert "new Idempotency-Key" in replayed.json()["errors"][0]["detail"]


def test_create_while_memberships_fail_and_creator_removed_ends_access(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    sandbox.fault("GET /v1/organizations/*/memberships", times=9, status=503)
    tenant = ada.create("Acme").json()
    sandbox.clear_faults()
    sandbox.membership(tenant["clerkOrgId"], grace.id, "org:admin")
    sandbox.api("DELETE", f"/organizations/{tenant['clerkOrgId']}/memberships/{ada.id}")

    assert ada.tenants().json() == []
    assert ada.get(f"/tenants/{tenant['id']}").status_code == 404


def test_create_repeated_with_a_key_after_the_creator_left_is_not_sent_again(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    key = {"Idempotency-Key": "k1"}
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)
    ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)
    [organization] = sandbox.api("GET", "/organizations")["data"]
    sandbox.membership(organization["id"], grace.id, "org:admin")
    sandbox.api("DELETE", f"/organizations/{organization['id']}/memberships/{ada.id}")
    CreationAttempt.objects.update(sent_at=F("sent_at") - timedelta(seconds=100))

    assert ada.request("POST", "/tenants/create", {"name": "Acme"}, **key).status_code == 404
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_create_repeated_with_a_key_after_the_clock_was_set_back_is_resolved_within_minutes(
    sandbox: SandboxControl, ada: Caller
) -> None:
    key = {"Idempotency-Key": "k1"}
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)
    ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)
    CreationAttempt.objects.update(state="sent", sent_at=Now() + timedelta(hours=1))
    refused = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    job_context: Any = SimpleNamespace(job=SimpleNamespace(id=0))
    settle_creations(job_context, timestamp=0)
    CreationAttempt.objects.update(sent_at=F("sent_at") - timedelta(seconds=100))
    created = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    assert (refused.status_code, created.status_code) == (409, 201)
    assert 0 < int(refused["Retry-After"]) <= 60
    assert sandbox.api("GET", "/organizations")["total_count"] == 1


def test_create_repeated_with_a_key_after_a_sync_adopted_makes_it_the_primary(
    sandbox: SandboxControl, ada: Caller
) -> None:
    ada.create("First")
    key = {"Idempotency-Key": "k1"}
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)
    ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)
    assert len(ada.tenants().json()) == 2

    replayed = ada.request("POST", "/tenants/create", {"name": "Acme"}, **key)

    assert (replayed.status_code, replayed.json()["isPrimary"]) == (201, True)


def test_create_preflight_allows_the_idempotency_key(client: Client, settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]

    preflight = client.options(
        "/api/v1/tenants/create",
        headers={
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,idempotency-key",
        },
    )

    assert "idempotency-key" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize("waiting", ["list", "create"])
def test_request_while_clerk_hangs_is_answered_within_the_timeout(
    sandbox: SandboxControl, ada: Caller, settings: Any, waiting: str
) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 1
    match = "GET /v1/users/*" if waiting == "list" else "POST /v1/organizations"
    sandbox.fault(match, timeoutSeconds=20)

    begun = time.monotonic()
    response = ada.tenants() if waiting == "list" else ada.create()

    assert time.monotonic() - begun < 5
    assert response.status_code == (200 if waiting == "list" else 500)
    assert response.headers.get("X-Clerk-Sync") == ("stale" if waiting == "list" else None)
