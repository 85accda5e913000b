"""Reads of tenants: access while memberships change in Clerk, lookups by slug and organization, ETags."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client
from django.utils import timezone

from tenants.models import Tenant, UserSync
from tests.sandbox import SandboxControl
from tests.tenants.api.test_views import error
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db

READS = {
    "list": "/tenants/me/get-tenants",
    "page": "/tenants",
    "primary": "/tenants/me/primary-id",
    "one": "/tenants/{id}",
    "slug": "/tenants/slug/acme",
    "organization": "/tenants/organization/{clerkOrgId}",
    "members": "/tenants/{id}/members",
}


@pytest.fixture
def acme(sandbox: SandboxControl, ada: Caller, grace: Caller) -> Any:
    """A tenant that Ada created and Grace, a member, has listed."""
    tenant = ada.create("Acme", slug="acme").json()
    sandbox.membership(tenant["clerkOrgId"], grace.id)
    assert len(grace.tenants().json()) == 1
    return tenant


def age_listings(seconds: float) -> None:
    """Make the last listing of every user so much older."""
    UserSync.objects.update(synced_at=F("synced_at") - timedelta(seconds=seconds))


@pytest.mark.parametrize("read", READS)
def test_read_after_the_removal_in_clerk_ends_access_without_a_webhook(
    sandbox: SandboxControl, grace: Caller, acme: Any, read: str
) -> None:
    path = READS[read].format(**acme)
    before = grace.get(path)
    sandbox.api("DELETE", f"/organizations/{acme['clerkOrgId']}/memberships/{grace.id}")
    assert (before.status_code, before.headers["X-Clerk-Sync"]) == (200, "fresh")
    age_listings(61)

    after = grace.get(path)

    assert after.headers["X-Clerk-Sync"] == "synced"
    if read in ("list", "page"):
        assert str(acme["id"]) not in after.text
    else:
        assert error(after)[:2] == (404, "not_found")


@pytest.mark.parametrize("read", READS)
def test_read_while_clerk_fails_serves_the_local_rows(
    sandbox: SandboxControl, grace: Caller, acme: Any, read: str
) -> None:
    age_listings(61)
    sandbox.fault("GET /v1/users/*", times=9, status=503)

    response = grace.get(READS[read].format(**acme))

    assert (response.status_code, response.headers["X-Clerk-Sync"]) == (200, "stale")


def test_read_with_a_method_that_is_not_allowed_asks_no_clerk(sandbox: SandboxControl, ada: Caller) -> None:
    assert error(ada.request("POST", "/tenants/1"))[:2] == (405, "method_not_allowed")
    assert sandbox.requests() == []


def test_by_slug_prefers_linked_then_newest_and_omits_deleted(
    ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    member = {ada.id: "admin"}
    UserSync.objects.create(clerk_user_id=ada.id, synced_at=timezone.now())
    gone = legacy("Gone", member, slug="acme", clerk_org_id="org_0", status="deactivated")
    Tenant.objects.filter(pk=gone.pk).update(deleted_at=timezone.now())
    expected = [
        legacy("Linked, newer", member, slug="acme", clerk_org_id="org_2"),
        legacy("Linked, older", member, slug="acme", clerk_org_id="org_1"),
        legacy("Legacy", member, slug="acme"),
    ]
    Tenant.objects.filter(name="Linked, older").update(created_at=timezone.now() - timedelta(days=1))
    legacy("Other", {"user_other": "admin"}, slug="acme", clerk_org_id="org_3")

    for tenant in expected:
        assert ada.get("/tenants/slug/acme").json()["name"] == tenant.name
        tenant.delete()

    for slug in ("acme", "%00", "a%00b"):
        assert error(ada.get(f"/tenants/slug/{slug}"))[:2] == (404, "not_found")


def test_by_organization_after_joining_is_found_in_clerk(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    assert grace.tenants().json() == []
    tenant = ada.create("Acme").json()
    sandbox.membership(tenant["clerkOrgId"], grace.id)
    path = f"/tenants/organization/{tenant['clerkOrgId']}"
    assert error(grace.get(path))[:2] == (404, "not_found"), "listed less than 10 seconds ago"
    age_listings(11)

    assert grace.get(path).json()["role"] == "org:member"


def test_by_organization_of_a_stranger_asks_clerk_once_in_10_seconds(
    sandbox: SandboxControl, ada: Caller, grace: Caller
) -> None:
    tenant = ada.create("Acme").json()
    sandbox.clear_requests()

    for _ in range(3):
        assert error(grace.get(f"/tenants/organization/{tenant['clerkOrgId']}"))[:2] == (404, "not_found")

    assert len(sandbox.requests()) == 1


def test_by_organization_by_staff_stores_what_the_mirror_lacks(
    sandbox: SandboxControl, ada: Caller, client: Client
) -> None:
    organization = sandbox.organization("Acme", ada.id)
    client.force_login(User.objects.create_superuser("root"))

    found = client.get(f"/api/v1/tenants/organization/{organization['id']}")

    assert (found.status_code, found.json()["name"]) == (200, "Acme")
    assert Tenant.objects.get().clerk_org_id == organization["id"]
    for unknown in ("org_unknown", "user_1", "%2E%2E", "org_%00", "x" * 3000):
        assert error(client.get(f"/api/v1/tenants/organization/{unknown}"))[:2] == (404, "not_found")
    sandbox.fault("GET /v1/organizations/*", times=9, status=503)
    assert error(client.get("/api/v1/tenants/organization/org_other"))[:2] == (503, "clerk_unavailable")


@pytest.mark.parametrize("read", READS)
def test_read_with_the_current_etag_is_304_until_it_changes(grace: Caller, acme: Any, read: str) -> None:
    path = READS[read].format(**acme)
    first = grace.get(path)
    assert first.headers["Cache-Control"] == "private"

    same = grace.get(path, **{"If-None-Match": first.headers["ETag"]})
    weak = grace.get(path, **{"If-None-Match": f'"other", W/{first.headers["ETag"]}'})

    for answer in (same, weak):
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == first.headers["ETag"]
        assert (answer.headers["X-Clerk-Sync"], answer.headers["Cache-Control"]) == ("fresh", "private")
    assert grace.get(path, **{"If-None-Match": '"other"'}).content == first.content


@pytest.mark.parametrize(
    "header", [{"If-Match": '"other"'}, {"If-Unmodified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}]
)
def test_read_ignores_conditions_that_are_for_changes(
    grace: Caller, acme: Any, header: dict[str, str]
) -> None:
    answer = grace.get(f"/tenants/{acme['id']}", **header)
    assert (answer.status_code, answer.json()["id"]) == (200, acme["id"])


def test_read_after_a_change_has_another_etag(ada: Caller, acme: Any) -> None:
    path = f"/tenants/{acme['id']}"
    first = ada.get(path)
    Tenant.objects.update(name="Acme 2")

    changed = ada.get(path, **{"If-None-Match": first.headers["ETag"]})

    assert (changed.status_code, changed.json()["name"]) == (200, "Acme 2")
    assert "ETag" not in ada.get("/tenants/0").headers
