"""The dry run reports what the write would do, and nothing else."""

from dataclasses import replace

import pytest
from django.db import connection

from clerk_integration.organizations import get_clerk_org, get_clerk_org_memberships_page
from tenants.mirror import writer
from tenants.models import Membership, Tenant
from tenants.reconcile.differences import Difference, compare_organization, compare_with_clerk
from tenants.reconcile.full_sync import run_full_sync
from tenants.services import sync_organization
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db(transaction=True)


def end_memberships() -> None:
    """End all memberships now, as an event does that arrives while a list is being read."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE memberships SET is_active = false, written_at = clock_timestamp()")


def test_dry_run_membership_ended_meanwhile_is_no_difference(sandbox: SandboxControl) -> None:
    sandbox.organization("Mirrored", sandbox.user()["id"])
    run_full_sync()
    sandbox.organization("New", None)
    reported: list[Difference] = []

    def report(difference: Difference) -> None:
        reported.append(difference)
        end_memberships()

    comparison = compare_with_clerk(report)

    assert [difference.name for difference in reported] == ["New"]
    assert (comparison.unchanged, comparison.changed) == (2, 0)
    assert not Membership.objects.get().is_active


def difference_set(clerk_org_id: str, *, offset: int = 0) -> set[tuple[str, str]]:
    """Compare the organization with Clerk now."""
    asked_at = writer.clock()
    members = get_clerk_org_memberships_page(clerk_org_id)
    page = replace(members, offset=offset)
    return {
        (difference.what, difference.name)
        for difference in compare_organization(get_clerk_org(clerk_org_id), page, as_of=asked_at)
    }


def test_compare_organization_reports_what_the_sync_then_writes(sandbox: SandboxControl) -> None:
    users = [sandbox.user()["id"] for _ in range(3)]
    organization = sandbox.organization("Acme", users[0], slug="acme")["id"]
    for user in users[1:]:
        sandbox.membership(organization, user, "org:member")
    other = sandbox.organization("Other", users[0])["id"]
    sync_organization(organization)
    sync_organization(other)
    assert difference_set(organization) == set()

    sandbox.api("PATCH", f"/organizations/{organization}", {"name": "Acme Ltd"})
    sandbox.api("PATCH", f"/organizations/{organization}/memberships/{users[1]}", {"role": "org:admin"})
    sandbox.api("DELETE", f"/organizations/{organization}/memberships/{users[2]}")
    new = sandbox.user()["id"]
    sandbox.membership(organization, new, "org:member")

    expected = {
        ("changed", "Acme Ltd"),
        ("changed", f"{users[1]} in {organization}"),
        ("missing from the mirror", f"{new} in {organization}"),
    }
    # A page that is not the whole list proves nothing about members that it lacks.
    assert difference_set(organization, offset=1) == expected
    assert difference_set(organization) == expected | {
        ("missing from Clerk", f"{users[2]} in {organization}")
    }
    sync_organization(organization)
    assert difference_set(organization) == set()
    assert Tenant.objects.get(clerk_org_id=organization).name == "Acme Ltd"
