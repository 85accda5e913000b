"""The admin pages of runs and jobs: list, progress, outcomes, report, cancel, resume and start."""

import csv
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from procrastinate.contrib.django.models import ProcrastinateJob

from clerk_integration.jobs.queue import queue
from tenants.batches.run import start
from tenants.batches.steps import STEPS
from tenants.models import SyncRun, Tenant
from tenants.runs import slices
from tenants.runs.leases import LEASE
from tenants.tasks import record_dry_run
from tests.sandbox import SandboxControl
from tests.tenants.admin.conftest import Staff, shown_messages
from tests.tenants.batches.conftest import waiting_jobs, work
from tests.workers import register_worker

RUNS = "/admin/tenants/syncrun/"
JOBS = "/admin/procrastinate/procrastinatejob/"
SCRIPT = "<script>alert(1)</script>"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def chief() -> Staff:
    """A staff user who may do everything with runs."""
    return Staff("view_syncrun", "sync_tenant", "migrate_tenant", "change_tenant_status", "view_tenant")


@pytest.fixture
def onlooker() -> Staff:
    """A staff user who may only look at runs."""
    return Staff("view_syncrun")


def begin(number: int, **columns: Any) -> SyncRun:
    """Start a batch for new legacy tenants, as a superuser."""
    boss = User.objects.create_superuser(f"boss {User.objects.count()}")
    made = Tenant.objects.bulk_create(Tenant(name=f"Tenant {index}", **columns) for index in range(number))
    tenants = Tenant.objects.filter(pk__gte=made[0].pk)
    return start(STEPS["suspend"], tenants, acting_user=boss, options={"reason": SCRIPT})


def url(run: SyncRun, page: str = "change/") -> str:
    return f"{RUNS}{run.pk}/{page}"


def text(response: Any) -> str:
    assert response.status_code == 200, response
    return str(response.content.decode())


def test_run_list_shows_runs_with_step_starter_and_counts(chief: Staff) -> None:
    run = begin(3)
    SyncRun.objects.create(kind="full_sync", state="failed", holder=SCRIPT, created=1_000)
    work()

    page = text(chief.get(RUNS))

    for shown in (f"{run.pk}: Batch: Suspend", "boss 1", "3 done", "1,000 created", "completed", "failed"):
        assert shown in page
    assert SCRIPT not in page
    assert "No worker is running" in page
    assert f"{run.pk}: Batch" not in text(chief.get(f"{RUNS}?kind__exact=full_sync"))
    register_worker(heartbeat_seconds_ago=0)
    assert "No worker is running" not in text(chief.get(RUNS))


def test_run_page_shows_progress_outcomes_and_a_report_of_every_item(chief: Staff) -> None:
    run = begin(105)
    gone = Tenant.objects.order_by("pk")[4]
    Tenant.objects.filter(pk=gone.pk).delete()
    assert "data-progress-url" in text(chief.get(url(run)))
    assert chief.get(url(run, "progress/")).json()["finished"] is False
    work(limit=2)

    progress = chief.get(url(run, "progress/")).json()
    assert (progress["value"], progress["max"], progress["finished"]) == (40, 105, False)
    assert (progress["fields"]["progress"], progress["fields"]["not tried"]) == ("40 of 105 tenants", "65")
    work()
    page = text(chief.get(url(run)))
    assert "data-progress-url" not in page
    assert SCRIPT not in page
    assert page.count('<th scope="row">') == 100
    assert "Tenant 0" in page
    following = chief.get(url(run)).context["following"]
    assert text(chief.get(f"{url(run)}?after={following}")).count('<th scope="row">') == 5
    skipped = text(chief.get(f"{url(run)}?result=not_applicable"))
    assert skipped.count('<th scope="row">') == 1
    assert "deleted since the batch was started" in skipped
    assert "No item has this result." in text(chief.get(f"{url(run)}?result=failed"))

    report = chief.get(url(run, "report.csv"))
    lines = list(csv.DictReader(b"".join(report.streaming_content).decode("utf-8-sig").splitlines()))
    assert len(lines) == 105
    assert [line["item"] for line in lines if line["result"] == "not_applicable"] == [str(gone.pk)]


@pytest.mark.parametrize(
    "after", ["x", "a:b:c", "::", "tenants:99999999999999999999:1", "\x1f:1:²", "\0:1:1", f"a:{5000 * '9'}:1"]
)
def test_run_page_with_an_invented_position_is_shown(chief: Staff, after: str) -> None:
    run = begin(1)
    assert chief.http.get(url(run), {"after": after}).status_code == 200


@pytest.mark.parametrize("result", ["x", "\0"])
def test_run_page_with_an_invented_result_shows_every_outcome(chief: Staff, result: str) -> None:
    run = begin(1)
    work()
    assert chief.http.get(url(run), {"result": result}).context["rows"]


def test_report_keeps_formulas_of_texts_away_from_spreadsheets(chief: Staff) -> None:
    run = SyncRun.objects.create(
        kind="link", state="failed", error='=HYPERLINK("x")\nline 2: a;\N{FULLWIDTH PLUS SIGN}1\n'
    )
    report = b"".join(chief.get(url(run, "report.csv")).streaming_content).decode("utf-8-sig")
    assert list(csv.reader(report.splitlines()))[1:] == [
        ["", "", '\'=HYPERLINK("x")'],
        ["", "", "line 2: a;'\N{FULLWIDTH PLUS SIGN}1"],
    ]


def test_cancel_and_resume_by_their_buttons(chief: Staff) -> None:
    run = begin(30)
    work(limit=1)
    assert "Cancel" in text(chief.get(url(run)))

    response = chief.http.post(url(run, "cancel/"))
    assert shown_messages(response)[0][0] == "success"
    assert waiting_jobs() == []
    page = text(chief.get(url(run)))
    assert "Cancelled by staff." in page
    assert "Resume" in page

    chief.http.post(url(run, "resume/"))
    run.refresh_from_db()
    assert (run.state, run.started_by) == ("running", "staff")
    work()
    run.refresh_from_db()
    assert (run.state, run.updated) == ("completed", 30)
    assert shown_messages(chief.http.post(url(run, "resume/")))[-1][0] == "info"


@pytest.mark.parametrize(("holder", "waits"), [("workers, 1", True), ("ada@host, process 7 (1)", False)])
def test_run_page_without_a_worker_names_only_the_runs_that_wait_for_one(
    chief: Staff, holder: str, waits: bool
) -> None:
    run = SyncRun.objects.create(kind="full_sync", holder=holder, lease_expires_at=Now() + LEASE)
    assert ("No worker is running" in text(chief.get(url(run)))) == waits


def test_onlooker_sees_runs_and_controls_none(onlooker: Staff) -> None:
    run = begin(1)
    page = text(onlooker.get(url(run)))
    assert ">Cancel<" not in page
    assert str(Tenant.objects.get()) not in page
    assert "Start full sync" not in text(onlooker.get(RUNS))
    assert onlooker.http.post(url(run, "cancel/")).status_code == 403
    assert onlooker.http.post(url(run, "resume/")).status_code == 403
    for kind in ("full_sync", "dry_run", "migration"):
        assert onlooker.http.post(f"{RUNS}start/{kind}/").status_code == 403
    assert onlooker.get(url(run, "cancel/")).status_code == 405
    run.refresh_from_db()
    assert run.state == "running"


def test_pages_of_runs_without_permission_are_refused() -> None:
    run = begin(1)
    stranger = Staff()
    for page in ("change/", "progress/", "report.csv"):
        assert stranger.get(url(run, page)).status_code == 403
    assert stranger.get(RUNS).status_code == 403
    assert stranger.get(JOBS).status_code == 403


def test_unknown_runs_and_kinds_are_not_found(chief: Staff) -> None:
    for page in (f"{RUNS}999/change/", f"{RUNS}x/change/", f"{RUNS}999/report.csv", f"{RUNS}start/import/"):
        assert chief.get(page).status_code == 404


def test_start_full_sync_dry_run_and_migration_enqueue_their_jobs(
    sandbox: SandboxControl, chief: Staff, legacy: Callable[..., Tenant]
) -> None:
    legacy("Acme", {sandbox.user()["id"]: "owner"})
    ownerless = legacy("Ownerless")
    owner = sandbox.user()["id"]
    assert "Workers read all organizations" in text(chief.get(f"{RUNS}start/full_sync/"))
    assert not SyncRun.objects.exists()

    for kind, data in (("full_sync", {}), ("dry_run", {}), ("migration", {"owner": owner})):
        assert chief.http.post(f"{RUNS}start/{kind}/", data).status_code == 302

    tasks = set(ProcrastinateJob.objects.values_list("task_name", flat=True))
    assert tasks == {
        "tenants.tasks.sync_slice",
        "tenants.tasks.record_dry_run",
        "tenants.tasks.migrate_slice",
    }
    record_dry_run(**ProcrastinateJob.objects.get(task_name="tenants.tasks.record_dry_run").args)
    assert set(SyncRun.objects.values_list("kind", "started_by")) == {
        ("full_sync", "staff"),
        ("dry_run", "staff"),
        ("migration", "staff"),
    }
    [piece] = SyncRun.objects.get(kind="migration").slices.filter(part="tenants")
    rows = {row["tenant_id"]: row["draft"]["owner"] for row in piece.arguments["rows"]}
    assert rows[ownerless.pk] == owner
    again = text(chief.http.post(f"{RUNS}start/full_sync/"))
    assert "is on the queue already" in again


@pytest.mark.parametrize(("status", "advice"), [(503, "again later."), (401, "check_clerk")])
def test_start_refused_by_clerk_says_what_to_do_and_starts_nothing(
    sandbox: SandboxControl, chief: Staff, legacy: Callable[..., Tenant], status: int, advice: str
) -> None:
    legacy()
    sandbox.fault("*", status=status, times=9)
    for kind in ("full_sync", "migration"):
        page = text(chief.http.post(f"{RUNS}start/{kind}/"))
        assert "Nothing was changed." in page
        assert advice in page
        assert ("again later." in page) == (status == 503)
    assert "user_" in text(chief.http.post(f"{RUNS}start/migration/", {"owner": "ada"}))
    assert not SyncRun.objects.exists()


def test_job_list_says_what_is_normal_and_hides_foreign_arguments(chief: Staff) -> None:
    begin(1)
    queue.defer_job(slices.job("shop.tasks.charge", card="4242", run_id=3))

    page = text(chief.get(JOBS))

    assert "a job that succeeded is deleted" in page
    assert "shop.tasks.charge" in page
    assert "tenants.tasks.batch_slice" in page
    assert "4242" not in page
    job = ProcrastinateJob.objects.latest("pk")
    assert chief.get(f"{JOBS}{job.pk}/change/")["Location"] == JOBS
    assert chief.http.post(f"{JOBS}{job.pk}/delete/").status_code == 403


def statements(staff: Staff, path: str) -> list[str]:
    staff.get(path)
    with CaptureQueriesContext(connection) as queries:
        text(staff.get(path))
    return [query["sql"] for query in queries]


FILL = """
INSERT INTO sync_runs
    (kind, state, holder, instance_id, cursor, created, updated, unchanged, retired, failed, error)
SELECT 'full_sync', 'completed', 'ada', '', '{{}}', n, 0, 0, 0, 0, '' FROM generate_series(1, {number}) AS n;
INSERT INTO tenants (name) SELECT 'Tenant ' || n FROM generate_series(1, {number}) AS n;
UPDATE sync_run_slices SET arguments = '{{"ids": []}}';
INSERT INTO sync_run_slices (run_id, part, number, broken, arguments, outcomes)
SELECT {run}, 'tenants', n, false, jsonb_build_object('ids', ids), outcomes
FROM (SELECT id / 20 AS n, jsonb_agg(id) AS ids,
             jsonb_object_agg(id, jsonb_build_object('result', 'done')) AS outcomes
      FROM tenants GROUP BY 1) AS sliced;
"""


def fill(run: SyncRun, number: int) -> None:
    """Give the run that many items with an outcome, and add that many other runs."""
    run.slices.exclude(number=0).delete()
    with connection.cursor() as cursor:
        cursor.execute(FILL.format(number=number, run=run.pk).replace("'tenants', n,", "'tenants', n + 1,"))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tenants; ANALYZE sync_runs; ANALYZE sync_run_slices")


PAGES = ("", "?state__exact=failed", "{run}/change/", "{run}/change/?result=failed", "{run}/progress/")


@pytest.mark.parametrize(
    "number", [pytest.param(1_000, id="1,000"), pytest.param(100_000, id="100,000", marks=pytest.mark.slow)]
)
def test_pages_of_runs_take_the_same_statements_for_any_number_of_runs_and_items(
    chief: Staff, number: int
) -> None:
    run = begin(10)
    fill(run, 10)
    paths = [RUNS + page.format(run=run.pk) for page in PAGES]
    few = [len(statements(chief, path)) for path in paths]
    fill(run, number)
    many = [statements(chief, path) for path in paths]

    # The list takes one statement less, because a large number of runs is estimated and not counted.
    assert all(len(queries) <= before for queries, before in zip(many, few, strict=True))
    # A table of a thousand rows is rightly read whole.
    large = ("tenants", "memberships", "sync_runs") if number >= 100_000 else ()
    for query in (query for queries in many for query in queries if query.lstrip().startswith("SELECT")):
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + query)
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert not [table for table in large if f"Seq Scan on {table}" in plan], plan
