"""An organization in Clerk for each legacy tenant, and never two, against the local Clerk."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import F

from clerk_integration.exceptions import ClerkRejected, ClerkUnavailable
from tenants.backfill import create_organization_for
from tenants.backfill.abandoned import finish_abandoned
from tenants.exceptions import AbsorbRefused, AlreadyLinked, AmbiguousMarker, IdempotencyKeyInUse, NoOwner
from tenants.lifecycle import link
from tenants.models import CreationAttempt, Membership, Tenant
from tenants.reconcile import resolve_creations
from tenants.services import sync_clerk_org_to_db
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db

POST = "POST /v1/organizations"


@pytest.fixture
def owner(sandbox: SandboxControl) -> str:
    return str(sandbox.user()["id"])


@pytest.fixture
def old_sons(legacy: Callable[..., Tenant], owner: str) -> Tenant:
    return legacy("Old & Sons", {owner: "owner", "user_local": "member"}, slug="old-sons")


def create(tenant: Tenant) -> Tenant:
    return create_organization_for(tenant, acting_user=None)


def organizations(sandbox: SandboxControl) -> list[dict[str, Any]]:
    return list(sandbox.api("GET", "/organizations")["data"])


def posts(sandbox: SandboxControl) -> int:
    return len(sandbox.requests("POST", "/v1/organizations"))


def lose_the_reply(sandbox: SandboxControl, tenant: Tenant) -> None:
    """Let Clerk create the organization of which we do not hear."""
    sandbox.fault(POST, dropAfterCommit=True)
    with pytest.raises(ClerkUnavailable):
        create(tenant)
    assert len(organizations(sandbox)) == 1


def age_attempt(seconds: float) -> None:
    CreationAttempt.objects.update(sent_at=F("sent_at") - timedelta(seconds=seconds))


def test_create_links_the_tenant_to_a_new_organization_with_its_owner(
    sandbox: SandboxControl, old_sons: Tenant, owner: str
) -> None:
    linked = create(old_sons)

    [organization] = organizations(sandbox)
    assert (organization["name"], organization["slug"]) == ("Old & Sons", "old-sons")
    assert organization["created_by"] == owner
    assert (linked.pk, linked.clerk_org_id) == (old_sons.pk, organization["id"])
    assert linked.last_synced_at is not None
    members = Membership.objects.filter(tenant=linked)
    assert {
        (member.clerk_user_id, member.role, member.clerk_membership_id is None) for member in members
    } == {
        (owner, "org:admin", False),
        ("user_local", "member", True),
    }
    attempt = CreationAttempt.objects.get()
    assert (attempt.state, attempt.answer) == (
        "succeeded",
        {"clerk_org_id": organization["id"], "backfilled": True},
    )


def test_create_takes_the_earliest_admin_where_nobody_is_owner(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str
) -> None:
    other = sandbox.user()["id"]
    tenant = legacy("Acme", {"user_member": "member", owner: "admin", other: "admin"})
    Membership.objects.filter(clerk_user_id=other).update(created_at=F("created_at") - timedelta(days=1))

    create(tenant)

    assert organizations(sandbox)[0]["created_by"] == other


def test_create_with_an_owner_unknown_to_clerk_takes_the_next_one(
    sandbox: SandboxControl, legacy: Callable[..., Tenant]
) -> None:
    known = sandbox.user()["id"]
    tenant = legacy("Acme", {"user_unknown": "owner", known: "admin"})

    linked = create_organization_for(tenant, acting_user=None)

    assert sandbox.api("GET", f"/organizations/{linked.clerk_org_id}")["created_by"] == known


def test_create_without_owner_takes_the_named_user(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str
) -> None:
    tenant = legacy("Acme", {"user_member": "member"})
    create_organization_for(tenant, acting_user=None, owner=owner)
    assert organizations(sandbox)[0]["created_by"] == owner


def test_create_without_owner_sends_nothing(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> None:
    with pytest.raises(NoOwner):
        create(legacy("Acme", {"user_1": "member"}))
    assert sandbox.requests() == []
    assert not CreationAttempt.objects.exists()


def test_create_of_a_linked_tenant_sends_nothing(sandbox: SandboxControl, old_sons: Tenant) -> None:
    stale = Tenant.objects.get(pk=old_sons.pk)
    create(old_sons)
    sandbox.clear_requests()

    with pytest.raises(AlreadyLinked):
        create(stale)
    assert sandbox.requests() == []


def test_create_where_slugs_are_disabled_leaves_the_slug_out(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    sandbox.settings(slugs="disabled")
    Tenant.objects.update(slug="of-old")

    linked = create(old_sons)

    [organization] = organizations(sandbox)
    assert linked.clerk_org_id == organization["id"]
    assert linked.slug == organization["slug"] != "of-old"


def test_create_refused_by_clerk_can_be_sent_again(sandbox: SandboxControl, old_sons: Tenant) -> None:
    taken = sandbox.organization("Other", slug="old-sons")
    with pytest.raises(ClerkRejected):
        create(old_sons)
    assert CreationAttempt.objects.get().state == "failed"

    sandbox.api("DELETE", f"/organizations/{taken['id']}")
    linked = create(old_sons)

    assert [organization["id"] for organization in organizations(sandbox)] == [linked.clerk_org_id]
    assert CreationAttempt.objects.get().state == "succeeded"


def test_create_after_a_lost_reply_adopts_the_organization(sandbox: SandboxControl, old_sons: Tenant) -> None:
    lose_the_reply(sandbox, old_sons)
    assert CreationAttempt.objects.get().state == "unknown"

    linked = create(old_sons)

    assert [organization["id"] for organization in organizations(sandbox)] == [linked.clerk_org_id]
    assert posts(sandbox) == 1
    assert CreationAttempt.objects.get().state == "succeeded"


def test_create_after_a_lost_reply_finds_the_organization_whoever_left_and_renamed_it(
    sandbox: SandboxControl, old_sons: Tenant, owner: str
) -> None:
    lose_the_reply(sandbox, old_sons)
    [organization] = organizations(sandbox)
    sandbox.membership(organization["id"], sandbox.user()["id"], "org:admin")
    sandbox.api("DELETE", f"/organizations/{organization['id']}/memberships/{owner}")
    sandbox.api("PATCH", f"/organizations/{organization['id']}", {"name": "New & Sons"})
    age_attempt(3600)

    assert create(old_sons).clerk_org_id == organization["id"]
    assert posts(sandbox) == 1


def test_create_with_a_restored_database_adopts_by_the_marker(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    clerk_org_id = create(old_sons).clerk_org_id
    restore_backup()

    assert create(old_sons).clerk_org_id == clerk_org_id
    assert posts(sandbox) == 1


def test_create_with_two_organizations_of_the_tenant_names_both_and_sends_nothing(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    create(old_sons)
    [first] = organizations(sandbox)
    second = sandbox.organization("Copy", private_metadata=first["private_metadata"])
    restore_backup()

    with pytest.raises(AmbiguousMarker) as refused:
        create(old_sons)
    assert {first["id"], second["id"]} <= set(str(refused.value).replace(",", "").split())
    assert not CreationAttempt.objects.exists()


def restore_backup() -> None:
    """Bring the database back to before the organization was created."""
    CreationAttempt.objects.all().delete()
    Membership.objects.update(clerk_membership_id=None, role="owner")
    Tenant.objects.update(clerk_org_id=None)


def test_sync_after_a_lost_reply_links_the_tenant_that_the_marker_names(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    lose_the_reply(sandbox, old_sons)
    [organization] = organizations(sandbox)

    linked = sync_clerk_org_to_db(organization["id"])

    assert linked is not None
    assert (linked.pk, linked.clerk_org_id) == (old_sons.pk, organization["id"])
    assert [tenant.pk for tenant in Tenant.objects.all()] == [old_sons.pk]


@pytest.mark.parametrize("marker", [{"installation": str(uuid4())}, {"installation": None}, {"tenant": "x"}])
def test_sync_of_an_organization_with_a_marker_that_is_not_ours_links_nothing(
    sandbox: SandboxControl, old_sons: Tenant, marker: dict[str, Any]
) -> None:
    lose_the_reply(sandbox, old_sons)
    [organization] = organizations(sandbox)
    organization["private_metadata"]["django_clerk_tenants"] |= marker

    mirror = sync_clerk_org_to_db(organization["id"], organization)

    assert mirror is not None
    assert mirror.pk != old_sons.pk
    old_sons.refresh_from_db()
    assert old_sons.clerk_org_id is None


def test_sync_of_the_organization_of_an_unlinked_tenant_does_not_link_it_again(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    linked = create(old_sons)
    clerk_org_id = linked.clerk_org_id
    assert clerk_org_id is not None
    link.unlink(linked, acting_user=None)

    mirror = sync_clerk_org_to_db(clerk_org_id)

    assert mirror is not None
    assert mirror.pk != old_sons.pk


def make_mirror_only_tenant(organization: dict[str, Any]) -> None:
    """Mirror an organization from a payload without private metadata, so that nobody sees the marker."""
    assert sync_clerk_org_to_db(organization["id"], organization | {"private_metadata": None}) is not None


def test_create_after_a_lost_reply_absorbs_the_row_that_a_sync_has_made(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    lose_the_reply(sandbox, old_sons)
    make_mirror_only_tenant(organizations(sandbox)[0])

    create(old_sons)

    assert [tenant.pk for tenant in Tenant.objects.all()] == [old_sons.pk]


def test_create_whose_row_is_in_use_is_refused_and_linked_when_that_is_settled(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    lose_the_reply(sandbox, old_sons)
    make_mirror_only_tenant(organizations(sandbox)[0])
    mirror = Tenant.objects.exclude(pk=old_sons.pk)
    mirror.update(status="suspended")
    with pytest.raises(AbsorbRefused):
        create(old_sons)

    mirror.update(status="active")
    linked = create(old_sons)

    assert linked.clerk_org_id == organizations(sandbox)[0]["id"]
    assert posts(sandbox) == 1


def test_create_of_unknown_outcome_is_not_sent_again_before_a_late_search(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    sandbox.fault(POST, status=500)
    with pytest.raises(ClerkUnavailable):
        create(old_sons)
    age_attempt(55)
    with pytest.raises(IdempotencyKeyInUse):
        create(old_sons)
    assert posts(sandbox) == 1

    age_attempt(10)
    linked = create(old_sons)

    assert [organization["id"] for organization in organizations(sandbox)] == [linked.clerk_org_id]
    assert posts(sandbox) == 2


def test_create_after_a_death_between_post_and_record_adopts_the_organization(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    lose_the_reply(sandbox, old_sons)
    CreationAttempt.objects.update(state="sent")  # What a killed process leaves behind.
    with pytest.raises(IdempotencyKeyInUse):
        create(old_sons)

    age_attempt(50)
    create(old_sons)

    assert posts(sandbox) == 1


def lose_the_reply_long_ago(sandbox: SandboxControl, tenant: Tenant) -> str:
    """Let two minutes pass after it; return the organization's id."""
    lose_the_reply(sandbox, tenant)
    age_attempt(125)
    return str(organizations(sandbox)[0]["id"])


def members_in_clerk(sandbox: SandboxControl, clerk_org_id: str) -> set[str]:
    page = sandbox.api("GET", f"/organizations/{clerk_org_id}/memberships")["data"]
    return {row["public_user_data"]["user_id"] for row in page}


@pytest.mark.parametrize("others", [1, 3, 9])
def test_create_that_a_job_finishes_adds_the_owner_only(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str, others: int
) -> None:
    members = {str(sandbox.user()["id"]): "admin" for _ in range(others)}
    tenant = legacy("Acme", {owner: "owner", **members})
    clerk_org_id = lose_the_reply_long_ago(sandbox, tenant)

    resolve_creations()
    assert finish_abandoned() == 1

    tenant.refresh_from_db()
    assert tenant.clerk_org_id == clerk_org_id
    assert members_in_clerk(sandbox, clerk_org_id) == {owner}
    assert finish_abandoned() == 0


@pytest.mark.django_db(transaction=True)
def test_create_that_a_migration_finishes_adds_all_members(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str, migrate: Callable[..., Any]
) -> None:
    tenant = legacy("Acme", {owner: "owner", str(sandbox.user()["id"]): "admin"})
    clerk_org_id = lose_the_reply_long_ago(sandbox, tenant)

    migrate()

    assert len(members_in_clerk(sandbox, clerk_org_id)) == 2


def test_create_whose_tenant_was_unlinked_since_is_not_linked_again_by_a_job(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    sync_clerk_org_to_db(lose_the_reply_long_ago(sandbox, old_sons))
    old_sons.refresh_from_db()
    assert not old_sons.is_legacy
    link.unlink(old_sons, acting_user=None)

    assert finish_abandoned() == 0

    old_sons.refresh_from_db()
    assert old_sons.is_legacy


def test_create_whose_first_organization_died_makes_another(
    sandbox: SandboxControl, old_sons: Tenant
) -> None:
    first = create(old_sons).clerk_org_id
    assert first is not None
    sandbox.api("DELETE", f"/organizations/{first}")
    sync_clerk_org_to_db(first)
    Tenant.objects.update(clerk_org_id=None, status="active", deleted_at=None)  # Staff unlinks it.
    Membership.objects.update(clerk_membership_id=None, role="owner", is_active=True)

    assert create(old_sons).clerk_org_id not in {None, first}


def test_create_while_clerk_cannot_list_members_links_without_them(
    sandbox: SandboxControl, old_sons: Tenant, owner: str
) -> None:
    sandbox.fault("GET /v1/organizations/*/memberships", status=422, times=5)

    assert create(old_sons).clerk_org_id is not None
    assert Membership.objects.get(clerk_user_id=owner).role == "owner"


@pytest.mark.django_db(transaction=True)
def test_create_twice_at_the_same_time_sends_one_post(sandbox: SandboxControl, old_sons: Tenant) -> None:
    sandbox.settings(latencyMs=300)
    barrier = threading.Barrier(2)

    def click() -> str:
        barrier.wait()
        try:
            return str(create(Tenant.objects.get(pk=old_sons.pk)).clerk_org_id)
        except IdempotencyKeyInUse:
            return "in use"
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        outcomes = [future.result() for future in [threads.submit(click), threads.submit(click)]]

    [organization] = organizations(sandbox)
    assert sorted(outcomes) == ["in use", organization["id"]]
    assert posts(sandbox) == 1
