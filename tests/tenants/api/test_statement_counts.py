"""How many SQL statements and Clerk calls the hot paths take; transaction control is not counted."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clerk_integration.entities import MARKER_KEY
from tenants.models import Membership
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)

TRANSACTION_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements of the block."""
    collected: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield collected
    collected.extend(
        query["sql"]
        for query in captured.captured_queries
        if not query["sql"].startswith(TRANSACTION_CONTROL)
    )


@pytest.fixture
def organizations(sandbox: SandboxControl) -> Iterator[Caller]:
    """A user with 1,000 organizations in Clerk, none of them known here."""
    sandbox.reset(organizations=1000, users=1, membershipsPerOrganization=1)
    [user] = sandbox.api("GET", "/users")
    yield Caller(sandbox, user["id"])
    sandbox.reset()


def test_a_syncing_list_of_1000_makes_2_clerk_calls_and_6_statements(
    sandbox: SandboxControl, organizations: Caller
) -> None:
    organizations.get("/tenants/me/primary-id")
    sandbox.clear_requests()

    with statements() as syncing:
        response = organizations.tenants()

    assert (response.headers["X-Clerk-Sync"], len(response.json())) == ("synced", 1000)
    assert len(sandbox.requests()) == 2
    assert len(syncing) <= 6, syncing


def test_a_fresh_list_of_1000_makes_no_clerk_call_and_2_statements(
    sandbox: SandboxControl, organizations: Caller
) -> None:
    organizations.tenants()
    sandbox.clear_requests()

    with statements() as fresh:
        response = organizations.tenants()

    assert (response.headers["X-Clerk-Sync"], len(response.json())) == ("fresh", 1000)
    assert sandbox.requests() == []
    assert len(fresh) <= 2, fresh


def test_a_second_sync_of_unchanged_organizations_writes_no_tenant_and_no_membership(
    sandbox: SandboxControl, organizations: Caller, settings: object
) -> None:
    organizations.tenants()
    settings.CLERK_SYNC_MAX_AGE_SECONDS = 0  # type: ignore[attr-defined]
    written_at = set(Membership.objects.values_list("written_at", flat=True))

    assert organizations.tenants().headers["X-Clerk-Sync"] == "synced"

    assert set(Membership.objects.values_list("written_at", flat=True)) == written_at


def test_authentication_takes_no_statement_and_no_call_with_the_key_at_hand(
    sandbox: SandboxControl, ada: Caller
) -> None:
    with statements() as all_statements:
        assert ada.get("/tenants/me/primary-id").status_code == 404

    assert len(all_statements) == 1, "only the question for the primary itself"
    assert sandbox.requests() == []


def test_a_syncing_list_of_migrated_organizations_takes_no_statement_more(
    sandbox: SandboxControl, ada: Caller
) -> None:
    marker = {"tenant": 1_000_000, "installation": "of-another-database", "attempt": None}
    for number in range(3):
        sandbox.organization(f"Migrated {number}", ada.id, private_metadata={MARKER_KEY: marker})
    ada.get("/tenants/me/primary-id")

    with statements() as syncing:
        assert len(ada.tenants().json()) == 3

    assert len(syncing) <= 6, syncing
