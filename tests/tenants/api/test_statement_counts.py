"""The numbers of SQL statements and Clerk calls of frequent requests; transaction control is not counted."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clerk_integration.entities import MARKER_KEY
from clerk_integration.instance import store_instance
from tenants.models import Membership
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)

TRANSACTION_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the SQL statements of the block."""
    collected: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield collected
    collected.extend(
        query["sql"]
        for query in captured.captured_queries
        if not query["sql"].startswith(TRANSACTION_CONTROL)
    )


@pytest.fixture
def organizations(sandbox: SandboxControl, db: None) -> Iterator[Caller]:
    """A user with 1,000 organizations in a known Clerk instance, none of which is mirrored yet."""
    store_instance(sandbox.description["instanceId"])
    sandbox.reset(organizations=1000, users=1, membershipsPerOrganization=1)
    [user] = sandbox.api("GET", "/users")
    yield Caller(sandbox, user["id"])
    sandbox.reset()


def test_list_syncing_1000_organizations_makes_2_clerk_calls_and_7_statements(
    sandbox: SandboxControl, organizations: Caller
) -> None:
    organizations.tenants("?sync_from_clerk=false")
    sandbox.clear_requests()

    with statements() as syncing:
        response = organizations.tenants()

    assert (response.headers["X-Clerk-Sync"], len(response.json())) == ("synced", 1000)
    assert len(sandbox.requests()) == 2
    assert len(syncing) <= 7, syncing


def test_list_fresh_with_1000_organizations_makes_no_clerk_call_and_2_statements(
    sandbox: SandboxControl, organizations: Caller
) -> None:
    organizations.tenants()
    sandbox.clear_requests()

    with statements() as fresh:
        response = organizations.tenants()

    assert (response.headers["X-Clerk-Sync"], len(response.json())) == ("fresh", 1000)
    assert sandbox.requests() == []
    assert len(fresh) == 2, fresh
    assert "request_counts" in fresh[0]
    assert fresh[1].count('"memberships" ON') == 1, "the memberships are read once"


def test_list_syncing_unchanged_organizations_writes_no_membership(
    sandbox: SandboxControl, organizations: Caller, settings: object
) -> None:
    organizations.tenants()
    settings.CLERK_SYNC_MAX_AGE_SECONDS = 0  # type: ignore[attr-defined]
    written_at = set(Membership.objects.values_list("written_at", flat=True))

    assert organizations.tenants().headers["X-Clerk-Sync"] == "synced"

    assert set(Membership.objects.values_list("written_at", flat=True)) == written_at


def test_authentication_with_a_cached_key_takes_no_statement_and_no_call(
    sandbox: SandboxControl, ada: Caller
) -> None:
    with statements() as all_statements:
        assert ada.tenants("?sync_from_clerk=false").json() == []

    assert len(all_statements) == 2, "only the count of the caller's requests, and the query for the tenants"
    assert sandbox.requests() == []


def test_list_syncing_organizations_with_foreign_markers_takes_no_more_statements(
    sandbox: SandboxControl, ada: Caller
) -> None:
    store_instance(sandbox.description["instanceId"])
    marker = {"tenant": 1_000_000, "installation": "of-another-database", "attempt": None}
    for number in range(3):
        sandbox.organization(f"Migrated {number}", ada.id, private_metadata={MARKER_KEY: marker})
    ada.tenants("?sync_from_clerk=false")

    with statements() as syncing:
        assert len(ada.tenants().json()) == 3

    assert len(syncing) <= 7, syncing
