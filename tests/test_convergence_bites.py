"""Show that the convergence test fails without any one of the rules that it is about."""

from pathlib import Path

import pytest

from tests.removed_rules import NO_TESTS_FAILED, TESTS_FAILED, copy_project, remove_rule, run_tests

pytestmark = [pytest.mark.slow]

TESTS = "tests/test_convergence.py"

STATEMENTS, DELETIONS = "statements.py", "deletions.py"

RULES = {
    "the version of organizations": (
        STATEMENTS,
        "coalesce(tenants.clerk_updated_at, 0) <= coalesce({incoming}.clerk_updated_at, 0)\n    AND (ten",
        "true\n    AND (ten",
    ),
    "the tombstones of organizations": (
        STATEMENTS,
        "SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = incoming.clerk_org_id)",
        "SELECT WHERE false)",
    ),
    "the tombstones of memberships": (
        STATEMENTS,
        "SELECT FROM tombstones WHERE kind = 'membership' AND clerk_id = incoming.clerk_membership_id)",
        "SELECT WHERE false)",
    ),
    "the tombstones of users": (
        STATEMENTS,
        "SELECT FROM tombstones WHERE kind = 'user' AND clerk_id = incoming.clerk_user_id)",
        "SELECT WHERE false)",
    ),
    "the order of two memberships": (
        STATEMENTS,
        "ELSE coalesce(memberships.clerk_created_at, 0) < coalesce({incoming}.clerk_created_at, 0)",
        "ELSE true",
    ),
    "the version of memberships": (
        STATEMENTS,
        "THEN coalesce(memberships.clerk_updated_at, 0) <= coalesce({incoming}.clerk_updated_at, 0)",
        "THEN true",
    ),
    "the age of a tombstone that is removed": (DELETIONS, "if age < RESTORABLE_AFTER:", "if False:"),
    "the removal of a tombstone that Clerk contradicts": (DELETIONS, "            tombstone.delete()\n", ""),
    "the status before a deletion": (
        DELETIONS,
        "_reopen(tenant, tombstone.status_before or Tenant.Status.ACTIVE.value)",
        "_reopen(tenant, Tenant.Status.SUSPENDED.value)",
    ),
    "the end of a membership by its id": (
        DELETIONS,
        "rows = Q(clerk_membership_id=membership_id)",
        "rows = Q(pk=None)",
    ),
}


@pytest.mark.parametrize("rule", list(RULES))
def test_convergence_without_one_rule_fails(tmp_path: Path, rule: str) -> None:
    name, present, absent = RULES[rule]
    project = copy_project(tmp_path)
    remove_rule(project / "tenants" / "mirror" / name, present, absent)

    assert run_tests(project, TESTS) == TESTS_FAILED


def test_convergence_with_all_rules_holds(tmp_path: Path) -> None:
    assert run_tests(copy_project(tmp_path), TESTS) == NO_TESTS_FAILED
