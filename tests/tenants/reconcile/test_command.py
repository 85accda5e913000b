"""`manage.py sync_from_clerk` as its operator sees it: output, exit codes, signals, a second operator."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from procrastinate.contrib.django.models import ProcrastinateJob
from pytest_django import Settings

from clerk_integration.exceptions import ClerkMisconfigured
from clerk_integration.models import LearnedInstance
from tenants.models import Membership, SyncRun, Tenant, Tombstone
from tests.children import PROJECT, child_environment
from tests.commands import manage
from tests.sandbox import SandboxControl
from tests.tenants.api.test_statement_counts import statements
from tests.tenants.reconcile.test_full_sync import row_versions
from tests.tenants.reconcile.test_queue import expire_lease, work
from tests.workers import empty_queue, register_worker

pytestmark = pytest.mark.django_db(transaction=True)

COMMAND = [sys.executable, "manage.py", "sync_from_clerk"]


def sync(*arguments: str) -> list[str]:
    """Run the command here and return its lines."""
    out = io.StringIO()
    call_command("sync_from_clerk", *arguments, stdout=out)
    return out.getvalue().splitlines()


def start(sandbox: SandboxControl, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=PROJECT,
        env=child_environment(sandbox.description),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def instance(sandbox: SandboxControl) -> SandboxControl:
    """A Clerk with 3 organizations of one member each."""
    sandbox.reset(organizations=3, users=3, membershipsPerOrganization=1)
    return sandbox


@pytest.fixture
def halfway(sandbox: SandboxControl) -> Iterator["subprocess.Popen[str]"]:
    """A full sync in a process of its own that has committed its first page, of 2, and waits for Clerk."""
    sandbox.reset(organizations=501, users=1, membershipsPerOrganization=1)
    sandbox.fault("GET /v1/organizations", timeoutSeconds=0.01)
    sandbox.fault("GET /v1/organizations", timeoutSeconds=3)
    with start(sandbox, "--skip-memberships") as process:
        deadline = time.monotonic() + 30
        while not SyncRun.objects.filter(pages__isnull=False).exists():
            assert time.monotonic() < deadline, "it never came to its first page"
            time.sleep(0.02)
        yield process
        process.kill()
    sandbox.clear_faults()


def test_sync_with_json_ends_with_a_summary(instance: SandboxControl) -> None:
    summary = json.loads(sync("--json")[-1])

    counts = {name: summary[name] for name in ("state", "created", "updated", "retired", "failed")}
    assert counts == {"state": "completed", "created": 6, "updated": 0, "retired": 0, "failed": 0}


def test_sync_without_a_terminal_prints_plain_lines(instance: SandboxControl) -> None:
    lines = sync()

    assert any(line.startswith("organizations: 3 of 3, ") for line in lines)
    assert "created: 6" in lines


def test_dry_run_of_a_changed_mirror_prints_the_differences_and_writes_its_run_only(
    instance: SandboxControl,
) -> None:
    sync()
    changed, extra, missing = Tenant.objects.all()
    instance.api("PATCH", f"/organizations/{changed.clerk_org_id}", {"name": "New name"})
    instance.api("DELETE", f"/organizations/{extra.clerk_org_id}")
    missing.delete()
    before = row_versions()

    with statements() as collected:
        lines = sync("--dry-run", "--json")

    assert row_versions() == before
    others = [sql for sql in collected if not re.match(r'(INSERT INTO|UPDATE) "sync_run', sql)]
    assert all(sql.lstrip().startswith(("SELECT", "WITH unlisted")) for sql in others), others
    assert f"organization {extra.clerk_org_id} ({extra.name}): missing from Clerk" in lines
    assert f"organization {missing.clerk_org_id} ({missing.name}): missing from the mirror" in lines
    assert any("changed: " in line and f"name {changed.name!r} -> 'New name'" in line for line in lines)
    summary = json.loads(lines[-1])
    assert (summary["missing_from_mirror"], summary["missing_from_clerk"], summary["changed"]) == (2, 2, 1)


def test_dry_run_of_an_up_to_date_mirror_finds_nothing(instance: SandboxControl) -> None:
    sync()

    summary = json.loads(sync("--dry-run", "--json")[-1])

    assert summary == {
        "run": SyncRun.objects.get(kind=SyncRun.Kind.DRY_RUN).pk,
        "unchanged": 6,
        "missing_from_mirror": 0,
        "missing_from_clerk": 0,
        "changed": 0,
        "recorded_as_deleted": 0,
        "skipped": 0,
    }


def test_named_organizations_two_of_three_are_synced_with_members(instance: SandboxControl) -> None:
    [one, two, _] = [row["id"] for row in instance.api("GET", "/organizations")["data"]]

    sync("--organization", one, "--organization", two)

    assert set(Tenant.objects.values_list("clerk_org_id", flat=True)) == {one, two}
    assert Membership.objects.count() == 2


def test_named_organization_deleted_in_clerk_becomes_a_tombstone(instance: SandboxControl) -> None:
    sync()
    gone = str(Tenant.objects.earliest("id").clerk_org_id)
    instance.api("DELETE", f"/organizations/{gone}")

    assert f"{gone}: tenant " in "\n".join(sync("--organization", gone))

    assert Tombstone.objects.filter(clerk_id=gone).exists()


def test_named_organizations_one_fails_names_it_and_syncs_the_others(
    instance: SandboxControl,
) -> None:
    ids = [row["id"] for row in instance.api("GET", "/organizations")["data"]]
    instance.fault(f"GET /v1/organizations/{ids[1]}", status=422)
    out = io.StringIO()

    with pytest.raises(CommandError, match="1 record could not be synced"):
        call_command("sync_from_clerk", "--organization", *ids, stdout=out)

    assert set(Tenant.objects.values_list("clerk_org_id", flat=True)) == {ids[0], ids[2]}
    assert f"{ids[1]}: " in out.getvalue()


@pytest.mark.parametrize("name", ["org_unknown", "acme", "org_../users"])
def test_named_organization_unknown_fails_with_one_message(instance: SandboxControl, name: str) -> None:
    with pytest.raises(CommandError) as failure:
        sync("--organization", name)

    assert name in str(failure.value)
    assert Tenant.objects.count() == 0


@pytest.mark.parametrize("option", ["--organization", "--user"])
@pytest.mark.parametrize("others", [[], ["--dry-run"]])
def test_named_by_an_empty_variable_is_refused_and_syncs_nothing(
    instance: SandboxControl, option: str, others: list[str]
) -> None:
    with pytest.raises(CommandError):
        sync(option, "", *others)

    assert (Tenant.objects.count(), SyncRun.objects.count(), instance.requests("POST")) == (0, 0, [])


def test_named_organizations_named_twice_count_once(instance: SandboxControl) -> None:
    one = instance.api("GET", "/organizations")["data"][0]["id"]

    summary = json.loads(sync("--json", "--organization", one, one, "--organization", one)[-1])

    assert summary == {"organizations": 1, "failed": 0}


def test_named_user_with_memberships_mirrors_only_these(instance: SandboxControl) -> None:
    user = instance.api("GET", "/users")[0]["id"]

    sync("--user", user)

    assert set(Membership.objects.values_list("clerk_user_id", flat=True)) == {user}


def test_named_user_unknown_fails_with_one_message(instance: SandboxControl) -> None:
    with pytest.raises(CommandError, match="Clerk has no user user_nobody"):
        sync("--user", "user_nobody")


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["--organization", "org_1"], ["--user", "user_1"]])
@pytest.mark.parametrize(
    "wrong",
    [
        ("CLERK_SECRET_KEY", "sk_test_wrong", "Clerk does not accept CLERK_SECRET_KEY"),
        ("CLERK_INSTANCE_ID", "ins_another", "ins_another"),
    ],
)
def test_sync_wrong_key_or_instance_fails_with_one_message(
    instance: SandboxControl, settings: Settings, arguments: list[str], wrong: tuple[str, str, str]
) -> None:
    setting, value, message = wrong
    setattr(settings, setting, value)

    with pytest.raises(CommandError, match=message):
        sync(*arguments)

    assert Tenant.objects.count() == Tombstone.objects.count() == 0


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([], "What was written is kept; run the same command again within the hour to resume."),
        (["--dry-run"], "No tenant was changed."),
    ],
)
def test_sync_outage_halfway_reports_what_was_kept_and_what_to_do(
    instance: SandboxControl, arguments: list[str], left: str
) -> None:
    instance.fault("GET /v1/organization_memberships", times=3, status=500)

    with pytest.raises(CommandError) as failure:
        sync(*arguments)

    assert str(failure.value).endswith(f". {left}")
    sync(*arguments)
    assert Tenant.objects.count() == (0 if arguments else 3)


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([], "Nothing was written."),
        (["--dry-run"], "No tenant was changed."),
        (["--enqueue"], "No job was queued."),
        (["--user", "user_1"], "Nothing was written; run the same command again."),
        (["--organization", "org_1"], "What was written is kept; run the same command again."),
    ],
)
def test_sync_outage_at_the_start_reports_what_was_kept(
    instance: SandboxControl, arguments: list[str], left: str
) -> None:
    instance.fault("GET /v1/instance", times=3, status=500)

    with pytest.raises(CommandError) as failure:
        sync(*arguments)

    assert str(failure.value).endswith(f". {left}")


def test_sync_with_the_key_of_another_instance_reports_once_that_nothing_was_changed(
    instance: SandboxControl,
) -> None:
    LearnedInstance.objects.create(instance_id="ins_other")

    with pytest.raises(CommandError) as failure:
        sync()

    assert str(failure.value).count("Nothing was") == 1


def test_sync_key_revoked_halfway_fails_the_run_and_keeps_written_rows(
    instance: SandboxControl,
) -> None:
    instance.fault("GET /v1/organization_memberships", status=401)

    with pytest.raises(
        CommandError, match=r"What was written is kept; the next sync starts from the beginning\.$"
    ):
        sync()

    assert (SyncRun.objects.get().state, Tenant.objects.count()) == (SyncRun.State.FAILED, 3)


def test_sync_error_is_reported_once(instance: SandboxControl, settings: Settings) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_wrong"
    out = io.StringIO()

    with pytest.raises(CommandError):
        call_command("sync_from_clerk", stdout=out)

    assert out.getvalue() == ""


@pytest.mark.parametrize("percent", ["-1", "101", "many", "nan"])
def test_max_retire_percent_out_of_range_is_refused(percent: str) -> None:
    with pytest.raises(CommandError, match="not a percentage"):
        sync(f"--max-retire-percent={percent}")


@pytest.mark.slow
def test_sync_at_a_terminal_shows_a_bar(instance: SandboxControl) -> None:
    here, there = pty.openpty()
    environment = child_environment(instance.description) | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(COMMAND, cwd=PROJECT, env=environment, stdout=there, stderr=there) as process:
        os.close(there)
        shown = b""
        while chunk := _read(here):
            shown += chunk
    os.close(here)

    assert process.returncode == 0, shown
    assert b"\xe2\x94\x81" in shown, "a bar"
    assert b"created: 6" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux reports the end of a terminal as an error.
        return b""


@pytest.mark.slow
def test_sync_ctrl_c_finishes_the_page_and_says_how_to_resume(halfway: "subprocess.Popen[str]") -> None:
    halfway.send_signal(signal.SIGINT)
    _, errors = halfway.communicate(timeout=30)

    assert halfway.returncode == 1
    assert "Run the same command within an hour to resume" in errors
    assert "Traceback" not in errors
    run = SyncRun.objects.get()
    assert (run.state, run.created) == (SyncRun.State.INTERRUPTED, Tenant.objects.count())


@pytest.mark.slow
def test_sync_killed_halfway_is_resumed_by_the_next_one(halfway: "subprocess.Popen[str]") -> None:
    halfway.kill()
    halfway.communicate(timeout=30)
    with pytest.raises(CommandError, match=rf"process {halfway.pid} \(\w+\), since "):
        sync("--skip-memberships")
    expire_lease(SyncRun.objects.get())

    lines = sync("--skip-memberships")

    assert any(line.startswith("Resuming full sync") for line in lines)
    assert (SyncRun.objects.get().state, Tenant.objects.count()) == (SyncRun.State.COMPLETED, 501)


@pytest.mark.slow
def test_full_sync_while_another_runs_names_its_holder(halfway: "subprocess.Popen[str]") -> None:
    with pytest.raises(CommandError) as refusal:
        sync("--skip-memberships")

    assert f"process {halfway.pid} (" in str(refusal.value)
    halfway.communicate(timeout=30)
    assert (halfway.returncode, SyncRun.objects.count()) == (0, 1)


def test_sync_with_a_refused_key_exits_with_1_and_one_message(
    sandbox: SandboxControl, settings: Settings
) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_no"

    finished = manage("sync_from_clerk", "--skip-checks", "--json")

    assert finished.code == 1
    assert "error" in json.loads(finished.output.splitlines()[-1])
    assert finished.errors.count("CommandError: Clerk does not accept CLERK_SECRET_KEY") == 1
    assert "Traceback" not in finished.errors


def test_enqueue_twice_adds_one_sync_and_names_follow(instance: SandboxControl) -> None:
    output = "\n".join(sync("--enqueue"))
    run = SyncRun.objects.get()
    with pytest.raises(CommandError, match=f"{run.pk} is on the queue already.*--follow {run.pk}"):
        sync("--enqueue")

    assert f"--follow {run.pk}" in output
    assert ProcrastinateJob.objects.filter(task_name="tenants.tasks.sync_slice").count() == 1
    assert not Tenant.objects.exists()
    work()
    assert json.loads(sync("--follow", str(run.pk), "--json")[-1])["state"] == "completed"
    assert Tenant.objects.count() == 3


def test_follow_failed_run_fails_with_its_message(instance: SandboxControl, settings: Settings) -> None:
    run = json.loads(sync("--enqueue", "--json")[-1])["run"]
    settings.CLERK_SECRET_KEY = "sk_test_wrong"
    with pytest.raises(ClerkMisconfigured):
        work()

    with pytest.raises(CommandError, match="Clerk does not accept CLERK_SECRET_KEY"):
        sync("--follow", str(run))


def test_follow_finished_run_shows_no_speed(instance: SandboxControl) -> None:
    run = json.loads(sync("--json")[-1])["run"]

    lines = sync("--follow", str(run))

    assert "memberships: 3 of 3" in lines
    assert not any("/s" in line for line in lines)


def test_follow_unknown_run_fails_with_one_message() -> None:
    with pytest.raises(CommandError, match="There is no full sync 987654"):
        sync("--follow", "987654")


@pytest.mark.parametrize("other", [["--dry-run"], ["--user", "user_1"], ["--organization", "org_1"]])
def test_enqueue_with_options_other_than_a_full_sync_is_refused(other: list[str]) -> None:
    with pytest.raises(CommandError, match="--enqueue"):
        sync("--enqueue", *other)


@pytest.mark.parametrize("other", ["--dry-run", "--skip-memberships", "--max-retire-percent=10", "--enqueue"])
def test_follow_with_ignored_options_is_refused(other: str) -> None:
    with pytest.raises(CommandError, match=f"--follow only watches; leave out {other.partition('=')[0]}."):
        sync("--follow", "1", other)


def test_enqueue_without_a_live_worker_says_so(instance: SandboxControl) -> None:
    register_worker(heartbeat_seconds_ago=60)
    assert "no worker is running. Start `manage.py procrastinate worker`" in "\n".join(sync("--enqueue"))
    empty_queue()
    register_worker(heartbeat_seconds_ago=1)
    assert "no worker is running" not in "\n".join(sync("--enqueue"))
