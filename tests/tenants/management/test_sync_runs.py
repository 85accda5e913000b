"""`manage.py sync_runs`: the list, one run with its outcomes, and its progress until it ends."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tenants.batches import control
from tenants.batches.run import start
from tenants.batches.steps import STEPS
from tenants.models import SyncRun, Tenant
from tests.tenants.batches.conftest import work

pytestmark = pytest.mark.django_db(transaction=True)


def sync_runs(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    call_command("sync_runs", *map(str, arguments))
    return capsys.readouterr().out.splitlines()


def begin_batch(number: int) -> SyncRun:
    Tenant.objects.bulk_create(Tenant(name=f"Tenant {index}") for index in range(number))
    Tenant.objects.filter(name="Tenant 1").update(status="deactivated")
    return start(STEPS["deactivate"], Tenant.objects.all(), acting_user=None)


def test_sync_runs_without_runs_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert sync_runs(capsys) == ["There are no runs yet."]
    assert json.loads(sync_runs(capsys, "--json")[-1]) == {"runs": []}


def test_sync_runs_lists_the_newest_first_and_shows_the_outcomes_of_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    SyncRun.objects.create(kind="full_sync", state="completed", holder="ada@host, process 1", created=3)
    run = begin_batch(3)
    work()

    newest, oldest = sync_runs(capsys)
    assert newest.startswith(f"run {run.pk}: ")
    assert "Batch: Deactivate, completed, 2 done, 1 skipped" in newest
    assert "Full Sync, completed, 3 created" in oldest
    assert oldest.endswith("by ada@host, process 1")
    assert len(sync_runs(capsys, "--limit", 1)) == 1

    first, second, third = Tenant.objects.order_by("pk").values_list("pk", flat=True)
    assert sync_runs(capsys, run.pk)[1:] == [
        f"{first} done",
        f"{second} not_applicable: already deactivated",
        f"{third} done",
    ]
    assert len(sync_runs(capsys, run.pk, "--result", "done")) == 3
    summary = json.loads(sync_runs(capsys, run.pk, "--json")[-1])
    assert (summary["state"], summary["done"], summary["skipped"]) == ("completed", 2, 1)


@pytest.mark.usefixtures("new_york_without_use_tz")
def test_sync_runs_without_use_tz_shows_the_time_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    started_at = datetime(2026, 5, 12, 8, 0, 0, tzinfo=UTC)
    SyncRun.objects.create(kind="full_sync", state="completed", started_at=started_at, finished_at=started_at)

    assert "2026-05-12 08:00:00 UTC" in sync_runs(capsys)[0]
    [summary] = json.loads(sync_runs(capsys, "--json")[-1])["runs"]
    assert summary["started_at"] == summary["finished_at"] == "2026-05-12T08:00:00+00:00"


def test_sync_runs_unknown_run_and_follow_without_a_run_are_refused() -> None:
    with pytest.raises(CommandError, match="There is no run 7"):
        call_command("sync_runs", "7")
    with pytest.raises(CommandError, match="There is no run 7"):
        call_command("sync_runs", "7", "--follow")
    with pytest.raises(CommandError, match="need the number of a run"):
        call_command("sync_runs", "--follow")


def cancel_last() -> None:
    control.cancel(SyncRun.objects.latest("pk"), acting_user=None)


@pytest.mark.parametrize(
    ("end", "state", "done", "error"),
    [(work, "completed", 20, ""), (cancel_last, "interrupted", 0, "Cancelled.")],
)
def test_sync_runs_follow_ends_with_the_run(
    capsys: pytest.CaptureFixture[str], end: Callable[[], None], state: str, done: int, error: str
) -> None:
    run = begin_batch(21)

    def end_run() -> None:
        try:
            end()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        ended = other.submit(end_run)
        with pytest.raises(CommandError, match=error) if error else nullcontext():
            call_command("sync_runs", str(run.pk), "--follow", "--json")
        ended.result()

    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["state"], summary["done"]) == (state, done)
