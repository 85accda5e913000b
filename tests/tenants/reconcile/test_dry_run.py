"""The dry run reports a record if and only if the write changes its row."""

import json
from collections.abc import Iterator
from itertools import product

import pytest
from django.db import connection

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants.mirror import writer
from tenants.mirror.rows import membership_rows, organization_rows
from tenants.models import Membership, Tenant, Tombstone
from tenants.reconcile.differences import DIFFERING_MEMBERSHIPS, DIFFERING_ORGANIZATIONS
from tenants.sql import query

pytestmark = pytest.mark.django_db(transaction=True)

STAMPS = (None, 1, 2)
ACME = ClerkOrganization(id="org_1", name="Acme", updated_at=1)


def organizations() -> Iterator[tuple[ClerkOrganization | None, ClerkOrganization]]:
    """Our row, if there is one, and the incoming record: other name or not, older, as old or newer."""
    for stamp, incoming, name in product(STAMPS, STAMPS, ("Acme", "New name")):
        yield (
            ClerkOrganization(id="org_1", name="Acme", updated_at=stamp),
            ClerkOrganization(id="org_1", name=name, updated_at=incoming),
        )
    yield None, ACME


def membership(
    membership_id: str, *, role: str, created_at: int | None, updated_at: int | None
) -> ClerkMembership:
    return ClerkMembership(
        id=membership_id,
        role=role,
        user_id="user_1",
        organization=ACME,
        created_at=created_at,
        updated_at=updated_at,
    )


def version(table: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, ctid::text FROM {table}")
        return list(cursor.fetchall())


@pytest.mark.parametrize("deleted", [False, True], ids=["living", "recorded as deleted"])
def test_dry_run_of_organizations_reports_what_the_write_changes(deleted: bool) -> None:
    for ours, incoming in organizations():
        Tenant.objects.all().delete()
        Tombstone.objects.all().delete()
        if ours is not None:
            writer.write_organizations([ours])
        if deleted:
            Tombstone.objects.create(kind="organization", clerk_id="org_1")

        rows = json.dumps(organization_rows([incoming]))
        reported = query(DIFFERING_ORGANIZATIONS, records=rows, as_of=writer.clock())
        before = version("tenants")
        writer.write_organizations([incoming])

        assert bool(reported) == (version("tenants") != before), (ours, incoming)


@pytest.mark.parametrize(
    "tombstone",
    ["", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("organization", "membership", "user"))],
)
def test_dry_run_of_memberships_reports_what_the_write_changes(tombstone: str) -> None:
    ids = {"organization": "org_1", "membership": "orgmem_1", "user": "user_1"}
    stamps = [(1, 1), (1, 2), (2, 2), (None, None)]
    cases = product(("orgmem_1", "orgmem_2"), ("org:admin", "org:member"), stamps, stamps, (True, False))
    for membership_id, role, ours, theirs, is_active in cases:
        Tenant.objects.all().delete()
        Tombstone.objects.all().delete()
        writer.write_memberships(
            [membership("orgmem_1", role="org:member", created_at=ours[0], updated_at=ours[1])]
        )
        Membership.objects.update(is_active=is_active)
        if tombstone:
            Tombstone.objects.create(kind=tombstone, clerk_id=ids[tombstone])
        incoming = membership(membership_id, role=role, created_at=theirs[0], updated_at=theirs[1])

        as_of = writer.clock()
        rows = json.dumps(membership_rows([incoming]))
        reported = query(DIFFERING_MEMBERSHIPS, records=rows, as_of=as_of)
        before = version("memberships")
        writer.write_memberships([incoming], as_of=as_of)

        assert bool(reported) == (version("memberships") != before), (ours, incoming, is_active)
