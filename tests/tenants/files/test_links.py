"""`link_tenants`: the whole file is checked, then each line is linked for itself."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from tenants.files.links import Link as LinkLine
from tenants.files.links import Linked, link_all
from tenants.models import SyncRun, Tenant
from tenants.runs import records
from tenants.services import sync_clerk_org_to_db
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db

Link = Callable[..., dict[str, Any]]


@pytest.fixture
def link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Link:
    """Link the pairs, or the text of a whole file; return the summary."""

    def run(*pairs: tuple[object, object] | str, options: tuple[str, ...] = ()) -> dict[str, Any]:
        path = tmp_path / "links.csv"
        lines = [pair if isinstance(pair, str) else f"{pair[0]},{pair[1]}" for pair in pairs]
        path.write_text("\n".join(["tenant_id,clerk_org_id", *lines, ""]))
        call_command("link_tenants", str(path), "--json", *options)
        return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))

    return run


@pytest.fixture
def pair(sandbox: SandboxControl, legacy: Callable[..., Tenant]) -> Callable[[], tuple[Tenant, str]]:
    """Make a legacy tenant and an organization."""

    def make() -> tuple[Tenant, str]:
        owner = sandbox.user()["id"]
        return legacy("Old", {owner: "owner"}), str(sandbox.organization("Old", owner)["id"])

    return make


def refusal(link: Link, *pairs: Any) -> str:
    linked = set(Tenant.objects.filter(clerk_org_id__isnull=False))
    with pytest.raises(CommandError) as refused:
        link(*pairs)
    assert set(Tenant.objects.filter(clerk_org_id__isnull=False)) == linked
    return str(refused.value)


def test_link_links_every_line(link: Link, pair: Callable[[], tuple[Tenant, str]]) -> None:
    pairs = [pair(), pair()]

    summary = link(*((tenant.pk, org) for tenant, org in pairs))

    assert summary == {"linked": 2, "already_linked": 0, "failed": 0, "not_tried": 0}
    for tenant, clerk_org_id in pairs:
        tenant.refresh_from_db()
        assert tenant.clerk_org_id == clerk_org_id
    assert SyncRun.objects.get().kind == "link"


def test_link_that_takes_longer_than_a_request_may_is_made(
    link: Link, pair: Callable[[], tuple[Tenant, str]], sandbox: SandboxControl, settings: Settings
) -> None:
    tenant, organization = pair()
    settings.CLERK_TIMEOUT_SECONDS = "0.5"
    sandbox.fault("GET /v1/organizations/*/memberships", timeoutSeconds=0.8)
    assert link((tenant.pk, organization))["linked"] == 1


def test_link_again_finds_nothing_to_do(link: Link, pair: Callable[[], tuple[Tenant, str]]) -> None:
    tenant, clerk_org_id = pair()
    link((tenant.pk, clerk_org_id))

    summary = link((tenant.pk, clerk_org_id))

    assert summary == {"linked": 0, "already_linked": 1, "failed": 0, "not_tried": 0}


def test_link_dry_run_checks_and_links_nothing(link: Link, pair: Callable[[], tuple[Tenant, str]]) -> None:
    tenant, clerk_org_id = pair()

    summary = link((tenant.pk, clerk_org_id), options=("--dry-run",))

    assert summary == {"dry_run": True, "to_link": 1, "already_linked": 0}
    tenant.refresh_from_db()
    assert tenant.is_legacy


def test_link_absorbs_the_row_that_a_sync_has_made(
    link: Link, pair: Callable[[], tuple[Tenant, str]]
) -> None:
    tenant, clerk_org_id = pair()
    assert sync_clerk_org_to_db(clerk_org_id) is not None

    link((tenant.pk, clerk_org_id))

    assert [row.pk for row in Tenant.objects.all()] == [tenant.pk]


def test_link_with_wrong_lines_names_them_and_links_none(
    link: Link, pair: Callable[[], tuple[Tenant, str]]
) -> None:
    (good, org), (other, other_org) = pair(), pair()
    link((other.pk, other_org))
    taken, taken_org = pair()
    mirror = sync_clerk_org_to_db(taken_org)
    assert mirror is not None
    Tenant.objects.filter(pk=mirror.pk).update(status="suspended")
    free, _ = pair()

    message = refusal(
        link,
        (good.pk, org),
        (987654, "org_unknown1"),
        (other.pk, "org_unknown2"),
        (taken.pk, taken_org),
        (free.pk, "org_unknown3"),
        (good.pk, "org_unknown4"),
        ("x", "org_1"),
        (1, "acme"),
        "1",
    )

    assert message.splitlines() == [
        "line 3: there is no tenant 987654",
        f"line 4: tenant {other.pk} is linked to {other_org}; run `unlink_tenants {other.pk}` first",
        f"line 5: {taken_org} is linked to tenant {mirror.pk}: its status is suspended",
        "line 6: Clerk has no organization org_unknown3",
        "line 7: Clerk has no organization org_unknown4",
        f"line 7: tenant {good.pk} is already in line 2",
        "line 8: 'x' is not a tenant id",
        "line 9: 'acme' is not an organization id",
        "line 10: expected 2 values, found 1",
        "Nothing was changed.",
    ]


def test_link_that_fails_when_it_is_made_is_reported_and_the_others_are_linked(
    sandbox: SandboxControl, link: Link, pair: Callable[[], tuple[Tenant, str]], capsys: Any
) -> None:
    (first, org), (second, other) = pair(), pair()
    sandbox.fault(f"GET /v1/organizations/{org}", status=401)

    with pytest.raises(CommandError, match="1 link failed, 0 not tried"):
        link((first.pk, org), (second.pk, other))

    assert Tenant.objects.get(pk=first.pk).is_legacy
    assert Tenant.objects.get(pk=second.pk).clerk_org_id == other
    assert "line 2: Clerk does not accept CLERK_SECRET_KEY" in capsys.readouterr().out


def test_link_five_in_a_row_that_fail_alike_stop_it_and_are_named(
    sandbox: SandboxControl, link: Link, pair: Callable[[], tuple[Tenant, str]]
) -> None:
    pairs = [(tenant.pk, org) for tenant, org in (pair() for _ in range(9))]
    sandbox.fault("GET /v1/organizations/*", status=403, body="<html>", contentType="text/html", times=9)

    with pytest.raises(
        CommandError, match="Stopped: line 2, line 3, line 4, line 5, line 6 failed one after"
    ):
        link(*pairs)

    run = SyncRun.objects.get()
    assert (run.state, run.created, run.failed) == ("failed", 0, 5)
    assert [line.partition(":")[0] for line in run.error.splitlines()[:5]] == [
        f"line {number}" for number in range(2, 7)
    ]
    sandbox.clear_faults()
    assert link(*pairs)["linked"] == 9


def test_link_with_a_wrong_key_says_so(
    link: Link, pair: Callable[[], tuple[Tenant, str]], settings: Any
) -> None:
    tenant, clerk_org_id = pair()
    settings.CLERK_SECRET_KEY = "sk_test_wrong"

    assert "does not accept CLERK_SECRET_KEY" in refusal(link, (tenant.pk, clerk_org_id))


def test_link_records_runs_without_a_process_as_interrupted_and_leaves_the_others(
    link: Link, pair: Callable[[], tuple[Tenant, str]]
) -> None:
    tenant, clerk_org_id = pair()
    dead = SyncRun.objects.create(kind="link", lease_expires_at="2020-01-01T00:00Z")
    of_another_kind = SyncRun.objects.create(kind="migration", lease_expires_at="2020-01-01T00:00Z")
    of_workers = SyncRun.objects.create(kind="link")

    with records.recorded_run(SyncRun.Kind.LINK) as lease:
        link((tenant.pk, clerk_org_id))

        states = dict(SyncRun.objects.order_by("pk").values_list("pk", "state"))
    assert states.pop(dead.pk) == "interrupted"
    assert {states.pop(run.pk) for run in (of_another_kind, of_workers, lease.run)} == {"running"}
    assert list(states.values()) == ["completed"]
    assert SyncRun.objects.get(pk=dead.pk).error == records.DIED


def test_link_that_breaks_off_ends_its_run_with_what_it_has_done(
    pair: Callable[[], tuple[Tenant, str]],
) -> None:
    (first, org), (second, other) = pair(), pair()

    def report(linked: Linked) -> None:
        raise BrokenPipeError("nobody reads")

    links = [LinkLine(2, first.pk, org), LinkLine(3, second.pk, other)]
    with pytest.raises(BrokenPipeError):
        link_all(links, stopping=Event(), report=report)

    run = SyncRun.objects.get()
    assert (run.state, run.created, run.failed) == ("failed", 1, 0)
    assert run.error == "BrokenPipeError: nobody reads"
    assert run.finished_at is not None
