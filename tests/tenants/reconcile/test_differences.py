"""The dry run reports what the write would do, and nothing else."""

import pytest
from django.db import connection

from tenants.models import Membership
from tenants.reconcile.differences import Difference, compare_with_clerk
from tenants.reconcile.full_sync import run_full_sync
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
