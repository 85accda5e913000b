"""Importing tenants from a file, and exporting the list, in the admin."""

import csv
import json
import tracemalloc
from collections.abc import Callable
from html import escape
from io import BytesIO, StringIO
from itertools import islice
from random import Random
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from config.gunicorn_requests import MAX_BODY_BYTES
from tenants.admin.files import MAX_BYTES
from tenants.models import Membership, SyncRun, Tenant, TenantHistory
from tests.tenants.admin.conftest import Staff, shown_messages
from tests.tenants.admin.hostile import IDS, TEXTS
from tests.tenants.many_rows import fill

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/tenants/tenant/"
IMPORT = f"{LIST}import/"
EXPORT = f"{LIST}export/"

CSV = "external_id,name,slug,status,user_id,role\na1,Acme,acme,active,user_1,owner\nb2,Old,,suspended,,\n"


@pytest.fixture
def importer(db: None) -> Staff:
    return Staff("view_tenant", "migrate_tenant")


def upload(staff: Staff, content: str | bytes, name: str = "old.csv") -> Any:
    file = BytesIO(content.encode() if isinstance(content, str) else content)
    file.name = name
    return staff.http.post(IMPORT, {"file": file})


def confirm(staff: Staff, page: Any) -> Any:
    return staff.http.post(IMPORT, {"preview": page.context["preview"]})


def test_import_shows_what_it_would_create_and_writes_only_when_it_is_confirmed(importer: Staff) -> None:
    page = upload(importer, CSV)

    counts = page.context["counts"]
    assert (counts.tenants_created, counts.members_created) == (2, 1)
    assert not Tenant.objects.exists()
    assert not SyncRun.objects.exists()

    [(level, text)] = shown_messages(confirm(importer, page))

    assert (level, text) == ("success", "Imported from old.csv: 2 tenants and 1 member.")
    assert set(Tenant.objects.values_list("external_id", "name", "status")) == {
        ("a1", "Acme", "active"),
        ("b2", "Old", "suspended"),
    }
    assert Membership.objects.get().role == "owner"
    run = SyncRun.objects.get()
    assert (run.kind, run.state, run.started_by) == ("import", "completed", "staff")
    assert set(TenantHistory.objects.values_list("source", "actor")) == {("staff", "staff")}


def test_import_of_jsonl_leaves_tenants_that_differ_unchanged(importer: Staff) -> None:
    Tenant.objects.create(external_id="a1", name="Renamed here")
    lines = [json.dumps({"external_id": key, "name": "Acme"}) for key in ("a1", "b2")]

    [(_, text)] = shown_messages(confirm(importer, upload(importer, "\n".join(lines), "old.jsonl")))

    assert "1 tenant and 0 members. Left unchanged, because it differs here: 1 tenant." in text
    assert Tenant.objects.get(external_id="a1").name == "Renamed here"


def test_import_with_errors_shows_the_first_of_them_by_line_and_their_number(importer: Staff) -> None:
    content = "external_id,name\n" + ",x\n" * 30

    page = upload(importer, content)

    assert page.status_code == 400
    assert page.context["problems"][0] == "line 2: external_id is missing"
    assert page.context["problems"][-2:] == ["and 10 more problems", "Nothing was changed."]
    assert "preview" not in page.context
    assert not Tenant.objects.exists()


@pytest.mark.parametrize(
    ("content", "name", "shown"),
    [
        ("x", "old.xlsx", "neither .csv nor .jsonl"),
        (b"x" * (MAX_BYTES + 1), "old.csv", "manage.py import_tenants FILE"),
        ("", "old.csv", "empty"),
    ],
)
def test_import_of_another_file_is_refused(
    importer: Staff, content: str | bytes, name: str, shown: str
) -> None:
    assert shown in upload(importer, content, name).content.decode()


def test_import_of_bytes_that_are_no_text_names_the_file_as_the_user_does(importer: Staff) -> None:
    [problem, *_] = upload(importer, b"external_id,name\n\xff,x\n").context["problems"]

    assert problem.startswith("old.csv is not UTF-8")


@pytest.mark.slow
def test_import_of_a_file_of_the_largest_size_survives_the_preview(importer: Staff) -> None:
    head, line = "external_id,name\n", "{0:06d},Tenant {0:06d} é\n"
    lines = (MAX_BYTES - len(head)) // len(line.format(0).encode())
    content = head + "".join(line.format(number) for number in range(lines))

    response = confirm(importer, upload(importer, content))

    assert response.status_code == 302
    assert Tenant.objects.count() == lines


def test_import_of_a_file_of_the_largest_size_fits_into_the_requests_that_the_web_server_accepts(
    importer: Staff,
) -> None:
    random = Random(1)
    names = ("".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(250)) for _ in range(MAX_BYTES))
    lines = (f"{number},{name}\n".encode() for number, name in enumerate(names))
    content = b"external_id,name\n" + b"".join(islice(lines, MAX_BYTES // 760))

    preview = upload(importer, content).context["preview"]

    assert max(MAX_BYTES, len(preview)) + 10_000 < MAX_BODY_BYTES


def test_import_confirmed_by_another_user_or_changed_is_refused(importer: Staff) -> None:
    preview = upload(importer, CSV).context["preview"]
    other = User.objects.create_user("other", is_staff=True)
    other.user_permissions.set(Permission.objects.filter(codename="migrate_tenant"))
    client = Client()
    client.force_login(other)

    for sender, text in ((client, preview), (importer.http, f"{preview}x")):
        page: Any = sender.post(IMPORT, {"preview": text})
        assert "Nothing was changed. Choose the file again." in page.content.decode()
    assert not Tenant.objects.exists()


@pytest.mark.parametrize("text", TEXTS, ids=IDS)
def test_import_hostile_texts_in_a_file_are_harmless(importer: Staff, text: str) -> None:
    lines = StringIO()
    csv.writer(lines).writerows([["external_id", "name", text], ["a1", "Acme", "x"]])

    page = upload(importer, lines.getvalue())

    assert "unknown: " in page.context["problems"][0]
    assert text == escape(text) or text not in page.content.decode()


def test_import_without_the_permission_is_refused_and_has_no_button(viewer: Staff) -> None:
    assert viewer.get(IMPORT).status_code == 403
    assert upload(viewer, CSV).status_code == 403
    assert IMPORT not in viewer.get().content.decode()


def test_list_has_buttons_for_the_import_and_for_the_export_of_the_filtered_list(importer: Staff) -> None:
    page = importer.get(f"{LIST}?linked=true").content.decode()

    assert f'href="{IMPORT}"' in page
    assert f'href="{EXPORT}?linked=true"' in page


def exported(staff: Staff, query: str = "") -> list[dict[str, str]]:
    response = staff.get(f"{EXPORT}{query}")
    assert response.status_code == 200
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(StringIO(text, newline="")))


def test_export_holds_the_tenants_of_the_filtered_list(
    viewer: Staff, linked: Callable[..., Tenant], legacy: Callable[..., Tenant]
) -> None:
    linked("org_1", "Acme", slug="acme")
    legacy("Old, & Sons", {"user_1": "owner"})

    assert [row["name"] for row in exported(viewer)] == ["Acme", "Old, & Sons"]
    assert [(row["name"], row["members_count"]) for row in exported(viewer, "?linked=false")] == [
        ("Old, & Sons", "1")
    ]
    assert [row["clerk_org_id"] for row in exported(viewer, "?q=acm")] == ["org_1"]
    assert exported(viewer, "?q=nothing") == []


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_export_of_a_formula_is_neutral(viewer: Staff, legacy: Callable[..., Tenant], sign: str) -> None:
    name = f"{sign}HYPERLINK(1)"
    legacy(name)

    [row] = exported(viewer)

    assert row["name"] == f"'{name}"


def test_export_of_a_formula_after_a_semicolon_is_neutral(
    viewer: Staff, legacy: Callable[..., Tenant]
) -> None:
    legacy("a;=1+1; b-c")

    [row] = exported(viewer)

    assert row["name"] == "a;'=1+1; b-c"


def test_export_without_the_permission_is_refused(db: None) -> None:
    assert Staff("view_membership").get(EXPORT).status_code == 403


@pytest.mark.slow
def test_export_of_many_tenants_takes_little_memory(viewer: Staff) -> None:
    fill(20_000)
    lines = iter(viewer.get(EXPORT).streaming_content)
    count = (next(lines) + next(lines)).count(b"\r\n")  # imports what it needs
    tracemalloc.start()
    count += sum(chunk.count(b"\r\n") for chunk in lines)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 20_001
    assert peak < 8 * 1024 * 1024
