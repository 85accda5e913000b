"""`import_tenants`: every wrong line is named first, and a second import changes nothing."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError, connection, transaction

from tenants.exceptions import SyncInterrupted
from tenants.files.imports import BATCH, Imported, check_file, import_tenants
from tenants.models import Membership, SyncRun, Tenant
from tenants.runs.leases import HEARTBEAT_SECONDS
from tests.triggers import at_insert
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

CSV = """\
external_id,name,slug,status,user_id,role
a1,Acme,acme,active,user_1,owner
a1,Acme,acme,active,user_2,member
b2,"Old, & Sons",,suspended,,
"""
JSONL = """\
{"external_id": "a1", "name": "Acme", "slug": "acme", "members": [\
{"user_id": "user_1", "role": "owner"}, {"user_id": "user_2", "role": "member"}]}
{"external_id": "b2", "name": "Old, & Sons", "status": "suspended"}
"""

Import = Callable[..., dict[str, Any]]


@pytest.fixture
def load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """Import a text as a file; return the summary."""

    def run(text: str | bytes, *arguments: str, suffix: str = ".csv") -> dict[str, Any]:
        path = tmp_path / f"tenants{suffix}"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        call_command("import_tenants", str(path), "--json", *arguments)
        return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))

    return run


def refusal(load: Import, text: str | bytes, **options: str) -> str:
    with pytest.raises(CommandError) as refused:
        load(text, **options)
    assert not Tenant.objects.exists()
    assert not Membership.objects.exists()
    assert "Nothing was changed." in str(refused.value)
    return str(refused.value)


def rows() -> list[tuple[Any, ...]]:
    members = Membership.objects.order_by("tenant__external_id", "clerk_user_id")
    return [
        *Tenant.objects.order_by("external_id").values_list("external_id", "name", "slug", "status"),
        *members.values_list("tenant__external_id", "clerk_user_id", "role"),
    ]


@pytest.mark.parametrize(("text", "suffix"), [(CSV, ".csv"), (JSONL, ".jsonl"), ("\ufeff" + CSV, ".csv")])
def test_import_makes_legacy_tenants_with_members(load: Import, text: str, suffix: str) -> None:
    summary = load(text, suffix=suffix)

    assert rows() == [
        ("a1", "Acme", "acme", "active"),
        ("b2", "Old, & Sons", None, "suspended"),
        ("a1", "user_1", "owner"),
        ("a1", "user_2", "member"),
    ]
    assert all(tenant.is_legacy for tenant in Tenant.objects.all())
    assert (summary["tenants_created"], summary["members_created"]) == (2, 2)
    assert summary["differs_left_alone"] == 0
    assert SyncRun.objects.get().kind == "import"


@pytest.mark.parametrize(("text", "suffix"), [(CSV, ".csv"), (JSONL, ".jsonl")])
def test_import_again_changes_nothing(load: Import, text: str, suffix: str) -> None:
    load(text, suffix=suffix)
    Tenant.objects.filter(external_id="a1").update(name="Renamed", status="deactivated")
    Membership.objects.filter(clerk_user_id="user_2").update(role="admin", is_active=False)
    before = rows()

    summary = load(text, suffix=suffix)

    assert rows() == before
    assert (summary["tenants"], summary["tenants_created"], summary["members_created"]) == (2, 0, 0)
    assert summary["differs_left_alone"] == 1


def test_import_adds_what_is_missing(load: Import) -> None:
    load(CSV)

    summary = load(CSV + 'b2,"Old, & Sons",,suspended,user_3,owner\nc3,Third,,,,\n')

    assert (summary["tenants_created"], summary["members_created"]) == (1, 1)


def test_import_leaves_members_of_linked_tenants_to_clerk(load: Import) -> None:
    load(CSV)
    Tenant.objects.filter(external_id="a1").update(clerk_org_id="org_1")
    Membership.objects.all().delete()

    assert load(CSV)["members_created"] == 0


def test_import_dry_run_keeps_nothing(load: Import) -> None:
    assert load(CSV, "--dry-run")["tenants_created"] == 2
    assert rows() == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (",Acme,,,,", "external_id is missing"),
        ("x,,,,,", "name is missing"),
        ("x,X,,closed,,", "status 'closed' is not one of"),
        ("x,X,,,user_1,", "role is missing"),
        ("x,X,,,,owner", "user_id is missing"),
        ("x,X,,,not a user,owner", "user_id 'not a user' is not the id of a Clerk user"),
        ("x,X,,,org_1,owner", "user_id 'org_1' is not the id of a Clerk user"),
        ("x,X,,,user_1,boss", "role 'boss' is not one of"),
        ("x,X,,", "expected 6 values, found 4"),
        (f"x,{'X' * 257},,,,", "name has 257 characters; Clerk allows 256"),
        ("x,X\x00,,,,", "name contains the control character U+0000"),
        ("x,X\u202ey,,,,", "name contains the control character U+202E"),
        ("x,See https://acme.test,,,,", "name contains a URL"),
        ("x,X,Not A Slug,,,", "slug may contain lower-case letters, digits and dashes only"),
        ("1.23457E+15,X,,,,", "external_id '1.23457E+15' is a number that a spreadsheet has rounded"),
        ('"1,23457E+15",X,,,,', "external_id '1,23457E+15' is a number that a spreadsheet has rounded"),
        ("x\x07,X,,,,", "external_id contains characters that cannot be printed"),
        ("a1,Acme,acme,active,user_1,owner", "repeats line 2"),
        ("a1,Other,acme,active,user_3,owner", "has another name, slug or status than line 2"),
    ],
)
def test_import_of_a_wrong_line_names_it_and_writes_nothing(load: Import, line: str, problem: str) -> None:
    assert f"line 5: {problem}" in refusal(load, f"{CSV}{line}\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"external_id": 1, "name": "X"}', "external_id is not a string"),
        ('{"external_id": "x", "name": "\\ud800"}', "name contains the control character U+D800"),
        ('{"external_id": "x", "name": "X", "members": [1]}', "members is not a list of objects"),
        (
            '{"external_id": "x", "name": "X", "members": [{"user_id": "7", "role": "owner"}]}',
            "user_id '7' is not the id of a Clerk user",
        ),
        ('{"external_id": "x", "name": "X", "role": "owner"}', "unknown keys: 'role'"),
        (r'{"external_id": "x", "name": "X", "\ud800": 1}', r"unknown keys: '\ud800'"),
        ('{"external_id": "a1", "name": "Acme", "slug": "acme"}', "repeats line 1"),
    ],
)
def test_import_of_a_wrong_json_line_names_it(load: Import, line: str, problem: str) -> None:
    assert f"line 3: {problem}" in refusal(load, f"{JSONL}{line}\n", suffix=".jsonl")


def test_import_names_the_first_twenty_lines_and_counts_the_rest(load: Import) -> None:
    lines = refusal(load, CSV + "x,,,,,\n" * 50).splitlines()

    assert lines[:2] == ["line 5: name is missing", "line 6: name is missing"]
    assert lines[19:] == ["line 24: name is missing", "and 30 more problems", "Nothing was changed."]


@pytest.mark.parametrize(
    ("text", "suffix", "problem"),
    [
        ("", ".csv", "missing: 'external_id', 'name'"),
        ("external_id,nom\n", ".csv", "missing: 'name'; unknown: 'nom'"),
        ("external_id,name,name\n", ".csv", "repeated: 'name'"),
        ('external_id,name\nx,"unclosed\n', ".csv", "unexpected end of data"),
        (b"external_id,name\nx,\xff\n", ".csv", "not UTF-8"),
        (CSV, ".xlsx", "neither .csv nor .jsonl"),
    ],
)
def test_import_of_an_unusable_file_says_so(
    load: Import, text: str | bytes, suffix: str, problem: str
) -> None:
    assert problem in refusal(load, text, suffix=suffix)


def test_import_of_a_file_that_does_not_exist_ends_with_an_error_in_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(CommandError, match="cannot be read: No such file") as refused:
        call_command("import_tenants", "/nowhere.csv", "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"error": str(refused.value)}


@pytest.mark.slow
def test_import_of_100000_lines_is_whole(load: Import) -> None:
    lines = (f"t{number // 4},Tenant,,,user_{number},member" for number in range(100_000))

    summary = load("external_id,name,slug,status,user_id,role\n" + "\n".join(lines))

    assert (summary["tenants_created"], summary["members_created"]) == (25_000, 100_000)


def test_import_holds_locks_for_a_batch_and_not_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tenants.csv"
    lines = (f"t{number},Tenant,user_{number},owner" for number in range(2 * BATCH + 1))
    path.write_text("external_id,name,user_id,role\n" + "\n".join(lines))
    last = Tenant.objects.create(name="Tenant", external_id=f"t{2 * BATCH}")

    def load() -> Imported:
        try:
            return import_tenants(path, stopping=Event(), advance=lambda lines: None)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():  # The last batch waits for this row; what came before is committed.
            Membership.objects.create(tenant=last, clerk_user_id=f"user_{2 * BATCH}", role="owner")
            importing = pool.submit(load)
            wait_until(lambda: Tenant.objects.count() == 2 * BATCH + 1 or importing.done())
            free = Tenant.objects.exclude(pk=last.pk).select_for_update(skip_locked=True)
            assert len(free) == 2 * BATCH
        imported = importing.result()

    assert (imported.tenants_created, imported.members_created) == (2 * BATCH, 2 * BATCH)


def test_import_stopped_during_the_check_ends_it_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tenants.csv"
    path.write_text("external_id,name\n" + "\n".join(f"t{number},Tenant" for number in range(3 * BATCH)))
    stopping, lines = Event(), 0

    def advance(count: int) -> None:
        nonlocal lines
        lines += count
        stopping.set()

    with pytest.raises(SyncInterrupted, match="Nothing was changed"):
        check_file(path, advance=advance, stopping=stopping)
    with pytest.raises(SyncInterrupted, match="Nothing was changed"):
        import_tenants(path, advance=advance, stopping=stopping)

    assert lines < 3 * BATCH
    assert (Tenant.objects.count(), SyncRun.objects.count()) == (0, 0)


def test_import_stopped_keeps_its_batches_and_is_completed_by_a_second_one(tmp_path: Path) -> None:
    path = tmp_path / "tenants.csv"
    path.write_text("external_id,name\n" + "\n".join(f"t{number},Tenant" for number in range(2 * BATCH)))
    stopping = Event()

    stopped = import_tenants(path, stopping=stopping, advance=lambda lines: stopping.set())
    completed = import_tenants(path, stopping=Event(), advance=lambda lines: None)

    assert (stopped.complete, stopped.tenants_created) == (False, BATCH)
    assert (completed.complete, completed.tenants_created) == (True, BATCH)
    assert list(SyncRun.objects.order_by("pk").values_list("state", flat=True)) == [
        "interrupted",
        "completed",
    ]


def test_import_with_an_unexpected_error_ends_with_an_error_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tenants.csv"
    path.write_text(CSV)

    with at_insert("tenants", "PERFORM 1 / 0"), pytest.raises(DataError):
        call_command("import_tenants", str(path), "--json")

    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"].startswith("DataError: division by")


@pytest.mark.slow
def test_import_that_was_taken_over_says_what_is_kept_and_what_to_do(load: Import) -> None:
    lines = [f"t{number},Tenant,,," for number in range(3 * BATCH)]
    body = f"UPDATE sync_runs SET state = 'interrupted'; PERFORM pg_sleep({HEARTBEAT_SECONDS})"

    with (
        at_insert("tenants", body),
        pytest.raises(CommandError, match=r"What it wrote is kept\. Run the command again"),
    ):
        load("external_id,name,slug,user_id,role\n" + "\n".join(lines))

    assert 0 < Tenant.objects.count() < 3 * BATCH
