"""`migrate_tenants_to_clerk` against the local Clerk: plan, run, report, and what is repeated."""

import csv
import json
import os
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.exceptions import ClerkMisconfigured
from tenants import services
from tenants.backfill import run as migration
from tenants.backfill.attempts import tenant_of
from tenants.backfill.plan import make_plan
from tenants.backfill.run import counts_of
from tenants.backfill.step import Outcome
from tenants.lifecycle import link
from tenants.mirror import deletions
from tenants.models import CreationAttempt, Installation, Membership, SyncRun, Tenant, Tombstone
from tenants.runs import slices
from tenants.services import TenantService
from tests.sandbox import SandboxControl
from tests.webhooks import statements
from tests.workers import empty_queue, register_worker

pytestmark = pytest.mark.django_db(transaction=True)

Json = dict[str, Any]

STATEMENTS = 27
"""Statements for the migration of a tenant with three members, BEGIN and COMMIT not counted."""


@pytest.fixture
def owner(sandbox: SandboxControl) -> str:
    return str(sandbox.user()["id"])


@pytest.fixture
def three(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> list[Tenant]:
    """Three tenants with an owner, an admin and a member each."""
    users = [[sandbox.user()["id"] for _ in range(3)] for _ in range(3)]
    return [
        legacy(f"Tenant {number}", {one: "owner", two: "admin", three: "member"}, slug=f"tenant-{number}")
        for number, (one, two, three) in enumerate(users)
    ]


def organizations(sandbox: SandboxControl) -> list[Json]:
    return list(sandbox.api("GET", "/organizations", order_by="+created_at", limit=500)["data"])


def memberships(sandbox: SandboxControl) -> list[Json]:
    return list(sandbox.api("GET", "/organization_memberships", limit=500)["data"])


def writes(sandbox: SandboxControl) -> list[Json]:
    return [call for call in sandbox.requests() if call["method"] != "GET"]


def roles(tenant: Tenant) -> list[str]:
    return sorted(Membership.objects.filter(tenant=tenant).values_list("role", flat=True))


def test_migration_creates_an_organization_with_all_members_for_every_tenant(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    summary = migrate()

    assert (summary["code"], summary["created"], summary["state"]) == (0, 3, "completed")
    assert {org["name"] for org in organizations(sandbox)} == {"Tenant 0", "Tenant 1", "Tenant 2"}
    assert len(memberships(sandbox)) == 9
    for tenant in Tenant.objects.all():
        assert tenant.clerk_org_id is not None
        assert roles(tenant) == ["org:admin", "org:admin", "org:member"]
        assert not Membership.objects.filter(tenant=tenant, clerk_membership_id=None).exists()


def test_migration_organizations_carry_tenant_and_installation(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    migrate()

    marks = [org["private_metadata"]["django_clerk_tenants"] for org in organizations(sandbox)]
    assert {mark["tenant"] for mark in marks} == {tenant.pk for tenant in three}
    assert {mark["installation"] for mark in marks} == {str(Installation.objects.get().identity)}


def test_migration_run_again_has_nothing_to_do(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    migrate()
    sandbox.clear_requests()

    summary = migrate()

    assert (summary["code"], summary["tenants"]) == (0, 0)
    assert writes(sandbox) == []


def test_dry_run_prints_the_plan_and_writes_nothing_anywhere(
    sandbox: SandboxControl, three: list[Tenant], owner: str, migrate: Callable[..., Json]
) -> None:
    sandbox.organization("Other", slug="tenant-1")
    Membership.objects.filter(tenant=three[2]).update(role="member")
    sandbox.clear_requests()

    summary = migrate("--dry-run")

    assert (summary["create"], summary["conflict"], summary["code"]) == (1, 2, 1)
    assert "the slug tenant-1 is taken in Clerk" in summary["output"]
    assert "tenant-1-2 is free" in summary["output"]
    assert "no active owner or admin" in summary["output"]
    assert writes(sandbox) == []
    assert not CreationAttempt.objects.exists()
    assert not SyncRun.objects.exists()


def test_migration_leaves_conflicts_alone_and_migrates_the_rest(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json], tmp_path: Path
) -> None:
    sandbox.organization("Other", slug="tenant-1")
    report = tmp_path / "report.csv"

    summary = migrate("--report", str(report))

    assert (summary["code"], summary["created"], summary["conflict"]) == (1, 2, 1)
    three[1].refresh_from_db()
    assert three[1].clerk_org_id is None
    rows = {int(row["tenant_id"]): row for row in csv.DictReader(report.read_text().splitlines())}
    assert rows[three[0].pk]["action"] == "created"
    assert rows[three[0].pk]["organization_id"].startswith("org_")
    assert (rows[three[1].pk]["action"], rows[three[1].pk]["organization_id"]) == ("conflict", "")
    assert "taken" in rows[three[1].pk]["error"]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"name": ""}, "its name is blank"),
        ({"name": "x" * 257}, "its name has 257 characters"),
        ({"name": "See www.acme.test"}, "its name contains a URL"),
        ({"name": "<i>Acme</i>"}, "its name contains HTML"),
        ({"name": "Acme\u202e"}, "its name contains the control character U+202E"),
        ({"name": "Acme\nSons"}, "its name contains the control character U+000A"),
        ({"slug": "Old_Sons"}, "its slug 'Old_Sons' may contain"),
        ({"slug": "tenant-0"}, "the slug tenant-0 is taken"),
    ],
)
def test_migration_tenant_that_clerk_would_refuse_is_a_conflict_in_the_plan_and_in_the_run(
    sandbox: SandboxControl,
    three: list[Tenant],
    migrate: Callable[..., Json],
    columns: dict[str, str],
    problem: str,
) -> None:
    Tenant.objects.filter(pk=three[1].pk).update(**columns)

    plan, run = migrate("--dry-run"), migrate()

    assert (plan["create"], plan["conflict"]) == (run["created"], run["conflict"]) == (2, 1)
    for summary in (plan, run):
        [line] = [line for line in summary["output"].splitlines() if line.startswith("conflict")]
        assert f"tenant {three[1].pk}" in line
        assert problem in line
    assert plan["error"].startswith("1 conflict; nothing was changed.")
    assert run["error"].startswith("1 tenant was not migrated completely.")


def test_migration_after_a_link_was_moved_leaves_the_tenant_that_has_it_now(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], migrate: Callable[..., Json]
) -> None:
    """The organization carries the marker of the first tenant."""
    owner = sandbox.user()["id"]
    first = legacy("First", {owner: "owner"})
    migrate()
    first.refresh_from_db()
    second, third = legacy("Second", {owner: "owner"}), legacy("Third", {owner: "owner"})
    clerk_org_id = str(first.clerk_org_id)
    services.unlink(first, acting_user=None)
    TenantService.link_to_clerk_org(second, clerk_org_id, acting_user=None)

    summary = migrate()

    assert (summary["created"], summary["conflict"]) == (1, 1)
    assert f"{clerk_org_id} is linked to tenant {second.pk}: it was linked on" in summary["output"]
    linked = dict(Tenant.objects.values_list("pk", "clerk_org_id"))
    assert (linked[first.pk], linked[second.pk], linked[third.pk] is None) == (None, clerk_org_id, False)


def test_migration_limit_counts_tenants_that_can_be_migrated(
    sandbox: SandboxControl, three: list[Tenant], legacy: Callable[..., Tenant], migrate: Callable[..., Json]
) -> None:
    Tenant.objects.filter(pk__in=[three[0].pk, three[1].pk]).update(name="")
    legacy("Fourth", {sandbox.user()["id"]: "owner"})
    legacy("Fifth", {sandbox.user()["id"]: "owner"})

    summary = migrate("--limit", "2")

    assert (summary["created"], summary["conflict"], summary["tenants"]) == (2, 2, 4)
    assert migrate("--limit", "2")["created"] == 1


def test_migration_of_two_tenants_with_one_slug_gives_it_to_the_first(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    Tenant.objects.filter(pk=three[2].pk).update(slug="tenant-0")

    summary = migrate()

    assert (summary["created"], summary["conflict"]) == (2, 1)
    assert {org["slug"] for org in organizations(sandbox)} == {"tenant-0", "tenant-1"}


def test_migration_where_slugs_are_disabled_sends_none(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    sandbox.settings(slugs="disabled")

    assert migrate()["created"] == 3
    assert all("slug" not in call["body"] for call in writes(sandbox))


def test_migration_member_unknown_to_clerk_is_reported_and_others_are_added(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str, migrate: Callable[..., Json]
) -> None:
    known = sandbox.user()["id"]
    tenant = legacy("Acme", {owner: "owner", "user_ghost": "member", "no id": "member", known: "member"})

    summary = migrate()

    assert (summary["code"], summary["created"], summary["members_refused"]) == (1, 1, 2)
    assert "user_ghost" in summary["output"]
    assert {row["public_user_data"]["user_id"] for row in memberships(sandbox)} == {owner, known}
    assert Membership.objects.get(tenant=tenant, clerk_user_id="user_ghost").clerk_membership_id is None
    assert migrate()["code"] == 0


def test_migration_of_more_members_than_the_default_raises_the_limit_first(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str, migrate: Callable[..., Json]
) -> None:
    sandbox.organization_settings(max_allowed_memberships=5)
    members = {sandbox.user()["id"]: "member" for _ in range(8)}
    legacy("Acme", {owner: "owner", **members})

    assert migrate()["code"] == 0
    assert len(memberships(sandbox)) == 9
    assert [call["method"] for call in writes(sandbox)].count("PATCH") == 0


def test_migration_leaves_inactive_members_out_and_keeps_clerk_roles(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], migrate: Callable[..., Json]
) -> None:
    admin, member, gone = (sandbox.user()["id"] for _ in range(3))
    tenant = legacy("Acme", {admin: "org:admin", member: "org:member", gone: "member"})
    Membership.objects.filter(clerk_user_id=gone).update(is_active=False)

    assert migrate()["code"] == 0
    assert {row["public_user_data"]["user_id"] for row in memberships(sandbox)} == {admin, member}
    assert roles(tenant) == ["member", "org:admin", "org:member"]


def test_owner_option_gives_a_first_member_to_tenants_without_one(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str, migrate: Callable[..., Json]
) -> None:
    member = sandbox.user()["id"]
    legacy("Ownerless", {member: "member"})
    legacy("Ghostly", {"user_ghost": "owner"})
    assert migrate()["conflict"] == 2

    summary = migrate("--owner", owner)

    assert summary["created"] == 2
    assert {org["created_by"] for org in organizations(sandbox)} == {owner}


def test_owner_from_an_empty_variable_is_refused(migrate: Callable[..., Json]) -> None:
    assert "'' is not a user id" in migrate("--owner", "")["error"]


def test_owner_unknown_to_clerk_is_a_conflict_for_those_who_need_one(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], migrate: Callable[..., Json]
) -> None:
    legacy("Ownerless", {})

    summary = migrate("--owner", "user_nobody")

    assert (summary["conflict"], "user_nobody is unknown to Clerk" in summary["output"]) == (1, True)
    assert "is not a user id" in migrate("--owner", "nobody")["error"]


def test_tenant_and_limit_options_choose(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    assert migrate("--limit", "1")["created"] == 1
    assert migrate("--tenant", str(three[2].pk), "--tenant", str(three[0].pk))["created"] == 1
    assert [Tenant.objects.get(pk=tenant.pk).is_legacy for tenant in three] == [False, True, False]


def test_unknown_tenant_is_named_and_nothing_is_done(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    summary = migrate("--tenant", str(three[0].pk), "987654", "987655")

    assert summary["error"] == "There are no tenants 987654, 987655. Nothing was changed."
    assert sandbox.requests() == []


@pytest.mark.slow
def test_migration_after_a_lost_reply_adopts_the_organization_and_brings_the_members(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)

    summary = migrate()  # Looks again when the minute is over.

    assert (summary["code"], summary["created"], summary["adopted"]) == (0, 2, 1)
    assert (len(organizations(sandbox)), len(memberships(sandbox))) == (3, 9)


def test_migration_with_a_restored_database_adopts_by_the_marker(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    migrate()
    CreationAttempt.objects.all().delete()
    Membership.objects.update(clerk_membership_id=None, role="member")
    Tenant.objects.update(clerk_org_id=None)

    assert migrate("--dry-run")["adopt"] == 3
    summary = migrate()

    assert (summary["code"], summary["adopted"]) == (0, 3)
    assert (len(organizations(sandbox)), len(memberships(sandbox))) == (3, 9)


@pytest.mark.parametrize("options", [[], ["--enqueue"]])
def test_migration_restored_to_a_refused_attempt_adopts_what_was_created_after_the_backup(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json], options: list[str]
) -> None:
    refused = refused_once(sandbox, three[0], migrate)
    migrate()
    restore(refused)

    assert migrate("--dry-run")["adopt"] == 1
    summary = do_jobs(migrate("--tenant", str(three[0].pk), *options))

    assert (summary["code"], summary["run"].created, summary["run"].updated) == (0, 0, 1)
    assert (len(organizations(sandbox)), len(memberships(sandbox))) == (3, 9)
    assert not CreationAttempt.objects.exclude(answer__backfilled=True).exists()


def test_migration_restored_to_a_deleted_organization_adopts_its_successor(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    migrate("--limit", "1")
    three[0].refresh_from_db()
    dead = str(three[0].clerk_org_id)
    link.unlink(three[0], acting_user=None)
    sandbox.api("DELETE", f"/organizations/{dead}")
    deletions.record_organization_deleted(dead, source=Tombstone.Source.EVENT)
    before = CreationAttempt.objects.get()
    assert migrate()["created"] == 3
    restore(before)

    summary = migrate()

    assert (summary["code"], summary["created"], summary["adopted"]) == (0, 0, 1)
    assert len(organizations(sandbox)) == 3


def test_enqueued_migration_reports_an_organization_that_was_deleted_meanwhile_and_does_the_rest(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    migrate()
    gone = str(Tenant.objects.get(pk=three[1].pk).clerk_org_id)
    CreationAttempt.objects.all().delete()
    Membership.objects.update(clerk_membership_id=None)
    Tenant.objects.update(clerk_org_id=None)
    enqueued = migrate("--enqueue")
    sandbox.api("DELETE", f"/organizations/{gone}")

    run = do_jobs(enqueued)["run"]

    assert (run.state, run.updated, run.failed) == ("failed", 2, 1)
    assert run.error.startswith(f"tenant {three[1].pk}: Clerk does not know {gone}, which was created")
    assert Tenant.objects.exclude(clerk_org_id=None).count() == 2
    assert migrate()["created"] == 1


def test_enqueued_migration_creates_organizations_with_the_names_of_now(
    sandbox: SandboxControl, three: list[Tenant], owner: str, migrate: Callable[..., Json]
) -> None:
    enqueued = migrate("--enqueue")
    services.rename(three[1], name="New name", slug="new-name", acting_user=owner)

    run = do_jobs(enqueued)["run"]

    assert (run.state, run.created) == ("completed", 3)
    names = {(org["name"], org["slug"]) for org in organizations(sandbox)}
    assert names == {("Tenant 0", "tenant-0"), ("New name", "new-name"), ("Tenant 2", "tenant-2")}
    three[1].refresh_from_db()
    assert (three[1].name, three[1].slug) == ("New name", "new-name")


@pytest.mark.parametrize("change", [{"is_active": False}, {"role": "member"}])
def test_enqueued_migration_of_a_tenant_whose_owner_left_creates_nothing_for_it_and_does_the_rest(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json], change: Json
) -> None:
    enqueued = migrate("--enqueue")
    old = Membership.objects.get(tenant=three[1], role="owner").clerk_user_id
    Membership.objects.filter(tenant=three[1], clerk_user_id=old).update(**change)

    run = do_jobs(enqueued)["run"]

    assert (run.state, run.created, run.failed) == ("failed", 2, 1)
    assert f"{old} was to become the first member" in run.error
    assert len(organizations(sandbox)) == 2

    assert migrate()["created"] == 1
    now = Membership.objects.filter(tenant=three[1], is_active=True)
    assert dict(now.values_list("clerk_user_id", "role")).get(old) in (None, "org:member")


def test_enqueued_migration_keeps_the_owner_that_the_operator_named(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str, migrate: Callable[..., Json]
) -> None:
    legacy("Without members")

    assert do_jobs(migrate("--enqueue", "--owner", owner))["run"].created == 1


def test_enqueued_migration_counts_a_tenant_that_succeeds_in_the_repeat_as_that_only(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    run_id = cut_off_after_a_refusal(sandbox, migrate)
    run = SyncRun.objects.get(pk=run_id)
    assert (run.state, run.failed, counts_of(run)["conflict"], run.error) == ("running", 1, 1, "")

    do_jobs({"run": run_id})

    watched = migrate("--follow", str(run_id))
    assert (watched["state"], watched["code"], watched["created"]) == ("completed", 0, 3)
    assert (watched["failed"], watched["conflict"], watched["skipped"]) == (0, 0, 0)


def test_enqueued_migration_counts_a_slice_once_that_was_done_and_not_closed(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    Membership.objects.filter(tenant=three[2], role="member").update(clerk_user_id="user_ghost")
    once = do_jobs(migrate("--enqueue"))["run"]
    once.slices.update(closed_at=None)
    SyncRun.objects.update(state="running", error="", finished_at=None)

    twice = do_jobs({"run": once.pk})["run"]

    assert (once.created, once.unchanged, counts_of(once)["members_refused"]) == (3, 0, 1)
    assert (twice.created, twice.unchanged, counts_of(twice)["members_refused"]) == (3, 0, 1)
    assert (twice.state, twice.error) == ("failed", once.error)
    assert len(once.error.splitlines()) == 1


def test_enqueued_migration_that_workers_gave_up_names_the_tenants_that_failed(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    run_id = cut_off_after_a_refusal(sandbox, migrate)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed'")

    assert slices.end_abandoned_runs() == 1

    first, second = SyncRun.objects.get(pk=run_id).error.splitlines()
    assert re.match(r"tenant \d+: ", first)
    assert "1 of 1 slices not done" in second


def cut_off_after_a_refusal(sandbox: SandboxControl, migrate: Callable[..., Json]) -> int:
    """Begin a slice of which Clerk refuses one tenant, and then our key; return the run."""
    run_id = int(migrate("--enqueue")["run"])
    sandbox.fault("POST /v1/organizations", status=422)
    sandbox.fault("POST /v1/organizations", status=401)
    sandbox.fault("GET /v1/instance/organization_settings", status=401)
    with pytest.raises(ClerkMisconfigured):
        do_jobs({"run": run_id})
    return run_id


def refused_once(sandbox: SandboxControl, tenant: Tenant, migrate: Callable[..., Json]) -> CreationAttempt:
    """Let Clerk refuse the tenant's organization."""
    sandbox.fault("POST /v1/organizations", status=422)
    assert migrate("--tenant", str(tenant.pk))["conflict"] == 1
    attempt = CreationAttempt.objects.get()
    assert attempt.state == "failed"
    return attempt


def restore(attempt: CreationAttempt) -> None:
    """Bring the database back to the attempt as it was, before its tenant was linked."""
    tenant = Tenant.objects.filter(pk=tenant_of(attempt))
    Membership.objects.filter(tenant__in=tenant).update(clerk_membership_id=None)
    tenant.update(clerk_org_id=None)
    attempt.save()


def do_jobs(summary: Json) -> Json:
    """Do what the command has left to workers; return its summary, with its run as it is then."""
    for job in ProcrastinateJob.objects.filter(task_name=migration.MIGRATE_SLICE):
        migration.migrate_slice(**job.args)
    return {**summary, "run": SyncRun.objects.get(pk=summary["run"])}


def test_migration_tenant_linked_by_a_webhook_is_finished(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    """The run died after the POST; the organization's webhook came; its members are not in Clerk yet."""
    migrate()
    organization = organizations(sandbox)[0]
    tenant = Tenant.objects.get(clerk_org_id=organization["id"])
    member = Membership.objects.get(tenant=tenant, role="org:member")
    sandbox.api("DELETE", f"/organizations/{organization['id']}/memberships/{member.clerk_user_id}")
    Membership.objects.filter(pk=member.pk).update(clerk_membership_id=None, role="member")
    attempt = CreationAttempt.objects.filter(answer__clerk_org_id=organization["id"])
    attempt.update(answer={"clerk_org_id": organization["id"]}, sent_at=F("sent_at") - timedelta(hours=1))

    summary = migrate()

    assert (summary["code"], summary["adopted"]) == (0, 1)
    assert len(memberships(sandbox)) == 9


def test_migration_with_a_wrong_key_says_so_once(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json], settings: Any
) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_wrong"

    summary = migrate()

    assert "does not accept CLERK_SECRET_KEY" in summary["error"]
    assert summary["error"].endswith(" is invalid. Nothing was changed.")
    assert json.loads(summary["output"].splitlines()[-1]) == {"error": summary["error"]}
    assert not CreationAttempt.objects.exists()


def test_rate_limited_requests_are_sent_again_and_nothing_is_lost(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    sandbox.fault("POST /v1/organizations", rateLimit=1)
    sandbox.fault("POST /v1/organizations/*/memberships", rateLimit=1)

    summary = migrate()

    assert (summary["code"], summary["created"]) == (0, 3)
    assert (len(organizations(sandbox)), len(memberships(sandbox))) == (3, 9)


def test_migration_that_leaves_tenants_behind_has_failed_and_names_them(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    sandbox.organization("Other", slug="tenant-1")
    Membership.objects.filter(tenant=three[2], role="member").update(clerk_user_id="user_ghost")

    summary = migrate()

    run = SyncRun.objects.get()
    assert (run.state, summary["state"], summary["code"]) == ("failed", "failed", 1)
    conflict, refused = run.error.splitlines()
    assert conflict.startswith(f"tenant {three[1].pk}: the slug tenant-1 is taken")
    assert refused.startswith(f"tenant {three[2].pk}: ")
    assert "user_ghost" in refused


def test_enqueued_migration_is_watched_and_ends_as_if_the_command_had_done_it(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    sandbox.organization("Other", slug="tenant-1")

    enqueued = migrate("--enqueue")

    conflict = f"conflict tenant {three[1].pk}: the slug tenant-1 is taken"
    assert (enqueued["code"], conflict in enqueued["output"]) == (1, True)
    assert (enqueued["state"], enqueued["created"], enqueued["conflict"]) == ("running", 0, 1)
    [job] = ProcrastinateJob.objects.filter(task_name=migration.MIGRATE_SLICE)
    for _ in range(2):  # A worker that crashed may have done it before.
        migration.migrate_slice(**job.args)
    watched = migrate("--follow", str(enqueued["run"]))
    assert (watched["state"], watched["created"], watched["conflict"]) == ("failed", 2, 1)
    assert (watched["code"], watched["error"].startswith(conflict.removeprefix("conflict "))) == (1, True)
    assert len(organizations(sandbox)) == 3


def test_migration_is_summed_up_in_the_same_words_by_command_queue_and_watcher(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    enqueued = migrate("--enqueue", "--limit", "1")
    [job] = ProcrastinateJob.objects.filter(task_name=migration.MIGRATE_SLICE)
    migration.migrate_slice(**job.args)
    watched = migrate("--follow", str(enqueued["run"]))
    direct = migrate()

    assert enqueued.keys() == watched.keys() == direct.keys()
    assert (watched["tenants"], watched["created"], watched["state"]) == (1, 1, "completed")
    assert (direct["tenants"], direct["created"], direct["state"]) == (2, 2, "completed")


def test_enqueued_migration_of_nothing_but_conflicts_has_ended(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], migrate: Callable[..., Json]
) -> None:
    tenant = legacy("Ownerless")

    summary = migrate("--enqueue")

    run = SyncRun.objects.get()
    assert (summary["state"], run.state, summary["conflict"]) == ("failed", "failed", 1)
    assert "is queued" not in summary["output"]
    assert run.error.startswith(f"tenant {tenant.pk}: it has no active owner or admin")


def test_enqueued_migration_of_conflicts_takes_as_few_statements_for_a_thousand_as_for_one(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], owner: str
) -> None:
    legacy("Acme", {owner: "owner"})
    taken: list[int] = []
    for more in (1, 2, 997):
        Tenant.objects.bulk_create(Tenant(name=f"Ownerless {number}") for number in range(more))
        plan = make_plan()
        reported: list[Outcome] = []
        with CaptureQueriesContext(connection) as queries:
            run = migration.enqueue_migration(plan, report=reported.append)
        taken.append(len(queries))
        assert (run.failed, counts_of(run)["conflict"], run.state) == (
            len(reported),
            len(reported),
            "running",
        )

    assert len(reported) == 1_000
    assert taken[0] == taken[1] == taken[2]


def test_migration_takes_the_same_statements_for_each_tenant(
    sandbox: SandboxControl, legacy: Callable[..., Tenant], migrate: Callable[..., Json]
) -> None:
    taken: list[int] = []
    for tenants in (1, 3, 5):
        for _ in range(tenants):
            legacy(members={str(sandbox.user()["id"]): role for role in ("owner", "admin", "member")})
        run_id = migrate("--enqueue")["run"]
        with statements() as found:
            migration.migrate_slice(run_id, "tenants", 0)
        # A statement reserves the slots of 50 ms: the number of these statements depends on the time.
        taken.append(sum("clerk_pace" not in statement for statement in found))

    per_tenant = [more / 2 for more in (taken[1] - taken[0], taken[2] - taken[1])]
    assert per_tenant == [STATEMENTS, STATEMENTS]
    assert Tenant.objects.filter(clerk_org_id=None).count() == 0


@pytest.mark.parametrize("report", ["/nowhere/report.csv", "/dev/full"])
def test_migration_whose_report_cannot_be_written_is_not_begun(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json], report: str
) -> None:
    if report == "/dev/full" and not Path(report).exists():
        pytest.skip("only Linux has a device that is always full")

    summary = migrate("--report", report)

    assert summary["error"].startswith("The report cannot be written: ")
    assert summary["error"].endswith(". Nothing was changed.")
    assert (SyncRun.objects.count(), writes(sandbox)) == (0, [])


def test_migration_whose_report_breaks_off_ends_and_says_why(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json], tmp_path: Path
) -> None:
    report = tmp_path / "report.csv"
    os.mkfifo(report)
    sandbox.fault("POST /v1/organizations", times=3, timeoutSeconds=0.5)

    def read_the_first_line() -> None:
        with report.open() as file:
            file.readline()

    reader = threading.Thread(target=read_the_first_line)
    reader.start()

    summary = migrate("--report", str(report), "--concurrency", "1")

    reader.join()
    run = SyncRun.objects.get()
    assert (summary["code"], run.state, run.created) == (1, "failed", 1)
    assert "The report cannot be written: " in run.error
    assert "Run the same command again" in summary["error"]
    assert migrate()["code"] == 0
    assert not Tenant.objects.filter(clerk_org_id=None).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--enqueue", "--report", "x.csv", "--concurrency", "2"], "leave out --concurrency, --report."),
        (["--enqueue", "--dry-run"], "leave out --dry-run."),
        (
            ["--follow", "1", "--tenant", "2", "--limit", "3"],
            "leave out --tenant, --limit.",
        ),
        (["--follow", "1", "--enqueue"], "--follow only watches; leave out --enqueue."),
        (["--limit", "0"], "argument --limit: '0' is not a whole number from 1 to"),
        (["--concurrency", "-1"], "argument --concurrency: '-1' is not a whole number from 1 to"),
        (["--follow", "many"], "argument --follow: 'many' is not a whole number from 1 to"),
    ],
)
def test_migration_with_options_that_mean_nothing_is_refused_in_one_message(
    migrate: Callable[..., Json], arguments: list[str], message: str
) -> None:
    assert message in migrate(*arguments)["error"]
    assert not SyncRun.objects.exists()


def test_enqueued_migration_says_whether_a_worker_is_there(
    sandbox: SandboxControl, three: list[Tenant], migrate: Callable[..., Json]
) -> None:
    register_worker(heartbeat_seconds_ago=60)
    assert "no worker is running. Start `manage.py procrastinate worker`" in migrate("--enqueue")["output"]
    empty_queue()
    register_worker(heartbeat_seconds_ago=1)
    assert "no worker is running" not in migrate("--enqueue")["output"]
