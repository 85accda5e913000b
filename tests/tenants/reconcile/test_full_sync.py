"""The full sync: what it mirrors, what it retires, what it leaves alone, and what it costs."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models.functions import Now
from pytest_django import Settings

from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import (
    ClerkMisconfigured,
    ClerkUnavailable,
    ListingIncomplete,
    WrongInstance,
)
from tenants.exceptions import SyncInterrupted, SyncLost
from tenants.mirror import writer
from tenants.models import CreationAttempt, Membership, SyncRun, SyncRunPage, Tenant, Tombstone
from tenants.reconcile import resolve_creations, run_full_sync
from tenants.tasks import delete_old_records
from tests.sandbox import SandboxControl
from tests.tenants.api.test_statement_counts import statements
from tests.triggers import at_insert

pytestmark = pytest.mark.django_db(transaction=True)

LISTINGS = ("/v1/organizations", "/v1/organization_memberships")


def listing_requests(sandbox: SandboxControl) -> list[tuple[str, str]]:
    """The pages that were read: path and offset."""
    calls = [call for listing in LISTINGS for call in page_requests(sandbox, listing)]
    return [(call["path"], call["query"]["offset"][0]) for call in calls]


def page_requests(sandbox: SandboxControl, listing: str) -> list[dict[str, Any]]:
    """The requests for pages of a list, without those for organizations by their ids."""
    return [call for call in sandbox.requests("GET", listing) if "organization_id" not in call["query"]]


NEWS = ClerkOrganization(id="org_news", name="News", updated_at=1)


@contextmanager
def after_page(
    sandbox: SandboxControl, number: int, action: Callable[[], Any], *, of: str = LISTINGS[0]
) -> Iterator[None]:
    """Act when so many pages of the list are answered, while the next request waits in Clerk."""
    sandbox.clear_requests()
    sandbox.settings(latencyMs=200)
    failures: list[BaseException] = []

    def act() -> None:
        try:
            while len([call for call in page_requests(sandbox, of) if call["status"]]) < number:
                time.sleep(0.005)
            action()
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join()
    sandbox.settings(latencyMs=0)
    assert failures == []


def oldest_first(sandbox: SandboxControl) -> list[str]:
    """The ids of all organizations in the order that a scan meets them."""
    pages = [
        sandbox.api("GET", "/organizations", order_by="+created_at", limit=500, offset=offset)["data"]
        for offset in (0, 500, 1000)
    ]
    return [organization["id"] for page in pages for organization in page]


def row_versions() -> list[Any]:
    """The physical versions of all mirrored rows: any write changes them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 'tenants', id, ctid::text FROM tenants"
            " UNION ALL SELECT 'memberships', id, ctid::text FROM memberships ORDER BY 1, 2"
        )
        return list(cursor.fetchall())


@pytest.fixture
def instance(sandbox: SandboxControl) -> SandboxControl:
    """A Clerk with 501 organizations of two members each: 2 and 3 pages."""
    sandbox.reset(organizations=501, users=100, membershipsPerOrganization=2)
    return sandbox


def test_full_sync_of_an_empty_mirror_mirrors_all_in_one_call_per_500(instance: SandboxControl) -> None:
    run = run_full_sync()

    assert (run.state, run.created, run.updated, run.retired) == (SyncRun.State.COMPLETED, 1503, 0, 0)
    assert (Tenant.objects.count(), Membership.objects.filter(is_active=True).count()) == (501, 1002)
    assert len(listing_requests(instance)) == 2 + 3


def test_full_sync_of_unchanged_data_writes_no_row(instance: SandboxControl) -> None:
    run_full_sync()
    before = row_versions()

    run = run_full_sync()

    assert (run.created, run.updated, run.unchanged) == (0, 0, 1503)
    assert row_versions() == before


def test_full_sync_page_takes_three_statements(instance: SandboxControl) -> None:
    with statements() as collected:
        run_full_sync()

    upserts = [sql for sql in collected if "INSERT INTO tenants" in sql or "INSERT INTO memberships" in sql]
    records = [sql for sql in collected if "INSERT INTO sync_run_pages" in sql]
    locks = [sql for sql in collected if "pg_advisory_xact_lock_shared" in sql]
    assert (len(upserts), len(records), len(locks)) == (5, 5, 5)
    assert len(collected) - 3 * 5 < 35, "what a run takes besides, whatever the number of its pages"


def test_full_sync_organization_deleted_in_clerk_becomes_a_tombstone(instance: SandboxControl) -> None:
    run_full_sync()
    gone = Tenant.objects.earliest("id")
    instance.api("DELETE", f"/organizations/{gone.clerk_org_id}")

    run = run_full_sync()

    gone.refresh_from_db()
    assert (run.retired, gone.status, gone.deleted_at is None) == (1, "deactivated", False)
    assert Tombstone.objects.filter(clerk_id=gone.clerk_org_id).exists()
    assert not gone.memberships.filter(is_active=True).exists()
    asked = [call["path"] for call in instance.requests("GET") if gone.clerk_org_id in call["path"]]
    assert asked == [f"/v1/organizations/{gone.clerk_org_id}"], "its 404 is the proof"


def test_full_sync_membership_ended_in_clerk_ends_here(instance: SandboxControl) -> None:
    run_full_sync()
    gone = Membership.objects.select_related("tenant").filter(role="org:member").latest("id")
    instance.api("DELETE", f"/organizations/{gone.tenant.clerk_org_id}/memberships/{gone.clerk_user_id}")

    assert run_full_sync().retired == 1

    assert list(Membership.objects.filter(is_active=False)) == [gone]


def test_full_sync_missing_rows_are_measured_by_the_whole_mirror(
    sandbox: SandboxControl,
) -> None:
    sandbox.reset(organizations=10, users=5, membershipsPerOrganization=1)
    run_full_sync()
    gone, *others = Tenant.objects.all()
    sandbox.api("DELETE", f"/organizations/{gone.clerk_org_id}")
    for tenant in others:
        sandbox.api("PATCH", f"/organizations/{tenant.clerk_org_id}", {"name": "New name"})

    run = run_full_sync()

    assert (run.updated, run.retired) == (9, 1), "one of ten, which is no more than ten percent"


def test_full_sync_of_another_instance_is_refused_before_the_lists_are_read(
    instance: SandboxControl, settings: Settings
) -> None:
    settings.CLERK_INSTANCE_ID = "ins_another"

    with pytest.raises(WrongInstance, match="ins_another"):
        run_full_sync()

    assert (listing_requests(instance), Tenant.objects.count(), SyncRun.objects.count()) == ([], 0, 0)


def test_full_sync_legacy_tenants_and_their_members_are_left_alone(
    sandbox: SandboxControl, legacy: Callable[..., Tenant]
) -> None:
    sandbox.organization(created_by=sandbox.user()["id"])
    tenant = legacy(members={"user_old": "owner"})

    run_full_sync()

    tenant.refresh_from_db()
    assert (tenant.status, tenant.clerk_org_id) == ("active", None)
    assert tenant.memberships.get().is_active


def test_full_sync_rows_written_since_it_began_are_left_alone(sandbox: SandboxControl) -> None:
    """A webhook may know of an organization that a page did not show yet."""
    sandbox.organization(created_by=sandbox.user()["id"])
    with after_page(sandbox, 1, lambda: writer.write_organizations([NEWS])):
        run_full_sync()

    news = Tenant.objects.get(clerk_org_id=NEWS.id)
    assert (news.status, news.deleted_at) == ("active", None)


def test_full_sync_page_older_than_the_row_does_not_overwrite_it(sandbox: SandboxControl) -> None:
    organization = sandbox.organization(created_by=sandbox.user()["id"])
    newer = ClerkOrganization(id=organization["id"], name="Newer", updated_at=organization["updated_at"] + 1)
    with after_page(sandbox, 1, lambda: writer.write_organizations([newer])):
        run_full_sync()

    assert Tenant.objects.get().name == "Newer"


def test_full_sync_organization_created_between_the_lists_is_mirrored(sandbox: SandboxControl) -> None:
    sandbox.reset(organizations=5, users=5, membershipsPerOrganization=1)
    user = sandbox.api("GET", "/users")[0]["id"]
    late: list[str] = []
    with after_page(
        sandbox,
        1,
        lambda: late.append(sandbox.organization("Late", created_by=user)["id"]),
    ):
        run_full_sync()

    tenant = Tenant.objects.get(clerk_org_id=late[0])
    assert (tenant.name, tenant.memberships.get().clerk_user_id) == ("Late", user)


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "mirrored before"])
def test_full_sync_record_deleted_from_a_read_page_misses_and_retires_no_other(
    sandbox: SandboxControl, is_known: bool
) -> None:
    sandbox.reset(organizations=600, users=1, membershipsPerOrganization=1)
    ids = oldest_first(sandbox)
    if is_known:
        run_full_sync(skip_memberships=True)

    with after_page(sandbox, 1, lambda: sandbox.api("DELETE", f"/organizations/{ids[3]}")):
        run = run_full_sync(skip_memberships=True)

    assert set(Tenant.objects.values_list("clerk_org_id", flat=True)) >= set(ids) - {ids[3]}
    assert (run.state, run.retired) == (SyncRun.State.COMPLETED, 0)
    living = Tenant.objects.filter(deleted_at=None).values_list("clerk_org_id", flat=True)
    assert set(living) >= set(ids) - {ids[3]}


def hide(sandbox: SandboxControl, path: str, is_missing: Callable[[dict[str, Any]], bool]) -> None:
    """Let Clerk's next listing leave records out, and count as many less: a read that lags behind."""
    page = sandbox.api("GET", path.removeprefix("/v1"), order_by="+created_at", limit=500)
    shown = [record for record in page["data"] if not is_missing(record)]
    assert len(shown) < len(page["data"])
    sandbox.fault(f"GET {path}", body=json.dumps({"data": shown, "total_count": len(shown)}))


def test_full_sync_missing_organization_that_clerk_has_by_id_is_not_retired(sandbox: SandboxControl) -> None:
    sandbox.reset(organizations=20, users=3, membershipsPerOrganization=1)
    run_full_sync()
    missed = Tenant.objects.earliest("id")
    sandbox.api("PATCH", f"/organizations/{missed.clerk_org_id}", {"name": "New name"})
    hide(sandbox, LISTINGS[0], lambda record: record["id"] == missed.clerk_org_id)

    run = run_full_sync()

    missed.refresh_from_db()
    assert (run.state, run.retired) == (SyncRun.State.COMPLETED, 0)
    assert (missed.status, missed.deleted_at, missed.name) == ("active", None, "New name")


def test_full_sync_missing_membership_that_its_organization_lists_does_not_end(
    sandbox: SandboxControl,
) -> None:
    sandbox.reset(organizations=20, users=3, membershipsPerOrganization=1)
    run_full_sync()
    missed = Membership.objects.earliest("id")
    hide(sandbox, LISTINGS[1], lambda record: record["id"] == missed.clerk_membership_id)

    run = run_full_sync()

    assert (run.state, run.retired) == (SyncRun.State.COMPLETED, 0)
    assert Membership.objects.filter(is_active=True).count() == 20


def test_full_sync_taken_over_writes_nothing_more(instance: SandboxControl) -> None:
    def take_over() -> None:
        while not SyncRunPage.objects.exists():
            time.sleep(0.005)
        SyncRun.objects.update(holder="another process")

    with after_page(instance, 1, take_over), pytest.raises(SyncLost):
        run_full_sync()

    assert (Tenant.objects.count(), SyncRunPage.objects.count()) == (500, 1)
    assert SyncRun.objects.get().state == SyncRun.State.RUNNING, "it is the other's"


@pytest.mark.parametrize("gone", [0, 1, 3])
def test_full_sync_taken_over_behind_its_last_page_retires_nothing_and_does_not_complete(
    sandbox: SandboxControl, gone: int
) -> None:
    sandbox.reset(organizations=9, users=1, membershipsPerOrganization=1)
    run_full_sync(skip_memberships=True)
    for clerk_org_id in oldest_first(sandbox)[:gone]:
        sandbox.api("DELETE", f"/organizations/{clerk_org_id}")
    take_over = "UPDATE sync_runs SET state = 'interrupted', finished_at = now() WHERE state = 'running'"

    with at_insert("sync_run_pages", take_over), pytest.raises(SyncLost):
        run_full_sync(skip_memberships=True)

    assert Tenant.objects.filter(status="active").count() == 9
    assert SyncRun.objects.latest("id").state == SyncRun.State.INTERRUPTED


def test_full_sync_page_older_than_the_end_of_a_membership_does_not_restore_it(
    sandbox: SandboxControl,
) -> None:
    sandbox.reset(organizations=3, users=3, membershipsPerOrganization=1)
    run_full_sync()
    ended = Membership.objects.select_related("tenant").earliest("id")
    organization = ClerkOrganization(id=str(ended.tenant.clerk_org_id), name="Acme")

    def end() -> None:
        writer.write_organization_listing(organization, [], listed_at=writer.clock(), complete=True)

    with after_page(sandbox, 1, end):
        run_full_sync()

    ended.refresh_from_db()
    assert not ended.is_active


def test_full_sync_resumed_after_the_list_moved_misses_no_record(
    sandbox: SandboxControl,
) -> None:
    sandbox.reset(organizations=1400, users=1, membershipsPerOrganization=1)
    ids = oldest_first(sandbox)
    stopping = threading.Event()

    def move_and_stop() -> None:
        while not SyncRunPage.objects.exists():
            time.sleep(0.005)
        sandbox.api("DELETE", f"/organizations/{ids[3]}")
        stopping.set()

    with after_page(sandbox, 1, move_and_stop), pytest.raises(SyncInterrupted):
        run_full_sync(skip_memberships=True, stopping=stopping)
    assert run_full_sync(skip_memberships=True).pk == SyncRun.objects.get().pk

    assert set(Tenant.objects.values_list("clerk_org_id", flat=True)) >= set(ids) - {ids[3]}


def test_full_sync_record_dated_back_into_a_read_page_is_not_missed(sandbox: SandboxControl) -> None:
    sandbox.reset(organizations=600, users=1, membershipsPerOrganization=1)
    ids = oldest_first(sandbox)
    run_full_sync(skip_memberships=True)
    late: list[str] = []

    def insert() -> None:
        late.append(sandbox.organization("Late", created_at="2020-01-01T00:00:00Z")["id"])

    with after_page(sandbox, 1, insert):
        run = run_full_sync(skip_memberships=True)

    assert set(Tenant.objects.values_list("clerk_org_id", flat=True)) == {*ids, *late}
    assert (Tenant.objects.filter(deleted_at=None).count(), run.retired) == (601, 0)


def test_full_sync_list_that_never_stands_still_fails_and_retires_nothing(sandbox: SandboxControl) -> None:
    """Clerk counts one more than it ever lists."""
    sandbox.reset(organizations=3, users=3, membershipsPerOrganization=1)
    run_full_sync()
    page = sandbox.api("GET", "/organizations")
    sandbox.fault("GET /v1/organizations", times=12, body=json.dumps({**page, "total_count": 4}))

    with pytest.raises(ListingIncomplete, match="nothing was retired"):
        run_full_sync()

    assert Tenant.objects.filter(status="active").count() == 3


def test_full_sync_one_unreadable_organization_still_retires_what_clerk_confirms(
    sandbox: SandboxControl,
) -> None:
    sandbox.reset(organizations=20, users=3, membershipsPerOrganization=1)
    run_full_sync()
    gone, odd = Tenant.objects.all()[:2]
    sandbox.api("DELETE", f"/organizations/{gone.clerk_org_id}")
    sandbox.patch_record(str(odd.clerk_org_id), id=None)

    run = run_full_sync()

    assert (run.retired, run.failed > 0) == (1, True)
    assert [tenant.pk for tenant in Tenant.objects.filter(deleted_at__isnull=False)] == [gone.pk]


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("is_listed", [True, False], ids=["listed", "missing from the list"])
def test_full_sync_one_membership_without_user_still_ends_the_missing_one(
    sandbox: SandboxControl, count: int, is_listed: bool
) -> None:
    """Missing from the list, the unreadable member is asked for together with the one that is gone."""
    organization = sandbox.organization(created_by=sandbox.user()["id"])
    users = [str(sandbox.user()["id"]) for _ in range(count - 1)]
    for user in users:
        sandbox.membership(organization["id"], user)
    run_full_sync()
    gone, odd = (Membership.objects.get(clerk_user_id=user) for user in users[:2])
    sandbox.api("DELETE", f"/organizations/{organization['id']}/memberships/{gone.clerk_user_id}")
    sandbox.patch_record(str(odd.clerk_membership_id), remove=("public_user_data",))
    if not is_listed:
        hide(sandbox, LISTINGS[1], lambda record: record["id"] == odd.clerk_membership_id)

    run = run_full_sync(max_retire_percent=100)

    assert (run.retired, run.failed) == (1, 1 if is_listed else 0)
    assert list(Membership.objects.filter(is_active=False)) == [gone]


def test_full_sync_outage_leaves_a_run_that_resumes_at_its_page(instance: SandboxControl) -> None:
    instance.fault("GET /v1/organization_memberships", times=3, status=503)
    with pytest.raises(ClerkUnavailable):
        run_full_sync()
    first = SyncRun.objects.get()
    assert (first.state, first.created) == (SyncRun.State.INTERRUPTED, 501)
    instance.clear_requests()

    run = run_full_sync()

    assert (run.pk, run.state, Membership.objects.count()) == (first.pk, SyncRun.State.COMPLETED, 1002)
    assert [offset for path, offset in listing_requests(instance) if path == LISTINGS[0]] == []


def test_full_sync_older_than_an_hour_is_not_resumed(instance: SandboxControl) -> None:
    SyncRun.objects.create(kind="full_sync", state="interrupted", cursor={"skip_memberships": False})
    SyncRun.objects.update(started_at=Now() - timedelta(hours=2))

    run_full_sync()

    assert SyncRun.objects.count() == 2


def test_full_sync_wrong_key_changes_nothing(instance: SandboxControl, settings: Settings) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_wrong"

    with pytest.raises(ClerkMisconfigured):
        run_full_sync()

    assert Tenant.objects.count() == SyncRunPage.objects.count() == 0


def attempt(**columns: Any) -> CreationAttempt:
    """A creation that was sent two minutes ago and never answered."""
    row = CreationAttempt.objects.create(clerk_user_id="user_ada", body_hash="", state="unknown", **columns)
    CreationAttempt.objects.filter(pk=row.pk).update(sent_at=Now() - timedelta(minutes=2))
    return row


@pytest.mark.parametrize("settle", [run_full_sync, resolve_creations])
def test_full_sync_lost_creation_is_found_by_its_marker_or_has_failed(
    sandbox: SandboxControl, settle: Callable[[], object]
) -> None:
    found, nowhere = attempt(), attempt()
    recent = CreationAttempt.objects.create(clerk_user_id="user_ada", body_hash="", state="sent")
    marker = {"django_clerk_tenants": {"attempt": str(found.marker)}}
    organization = sandbox.organization(private_metadata=marker)

    settle()

    states = dict(CreationAttempt.objects.values_list("pk", "state"))
    assert states == {found.pk: "succeeded", nowhere.pk: "failed", recent.pk: "sent"}
    found.refresh_from_db()
    assert found.answer is not None
    assert found.answer["clerk_org_id"] == organization["id"]
    assert Tenant.objects.get().clerk_org_id == organization["id"]


@pytest.mark.parametrize(
    ("minutes", "searched"), [(1, 1), (2, 1), (3, 0), (4, 1), (5, 0), (1023, 0), (1024, 1)]
)
def test_resolve_creations_unknown_for_long_searches_less_and_less_often(
    sandbox: SandboxControl, minutes: int, searched: int
) -> None:
    """An organization that cannot be read keeps the search from being conclusive, for ever."""
    lost = attempt()
    CreationAttempt.objects.filter(pk=lost.pk).update(sent_at=Now() - timedelta(minutes=minutes, seconds=5))
    odd = sandbox.organization("Odd")
    sandbox.patch_record(odd["id"], id=None)
    sandbox.clear_requests()

    resolve_creations()

    assert len(sandbox.requests("GET")) == searched
    lost.refresh_from_db()
    assert lost.state == "unknown"


def test_nightly_deletes_old_runs_and_settled_creations_but_not_the_last_complete_sync(
    instance: SandboxControl,
) -> None:
    for _ in range(3):
        run_full_sync(skip_memberships=True)
    last = SyncRun.objects.latest("id")
    unsettled, settled = attempt(), attempt()
    CreationAttempt.objects.filter(pk=settled.pk).update(state="failed")
    long_ago = Now() - timedelta(days=91)
    SyncRun.objects.update(finished_at=long_ago)
    CreationAttempt.objects.update(created_at=long_ago)

    delete_old_records()

    assert list(SyncRun.objects.all()) == [last]
    assert list(CreationAttempt.objects.all()) == [unsettled]


def test_resolve_creations_without_a_lost_creation_sends_no_request(instance: SandboxControl) -> None:
    assert resolve_creations() == 0
    assert instance.requests() == []
