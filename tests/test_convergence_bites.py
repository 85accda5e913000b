"""Show that the convergence test fails without any one of the rules that it is about."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]

PROJECT = Path(__file__).resolve().parent.parent
PARTS = ("clerk_integration", "config", "templates", "tenants", "tests", "manage.py", "pyproject.toml")
NO_TESTS_FAILED, TESTS_FAILED = 0, 1

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


@pytest.fixture
def copy_of_the_project(tmp_path: Path) -> Path:
    for part in PARTS:
        source, target = PROJECT / part, tmp_path / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def converges(project: Path) -> int:
    """Run the convergence test in the project and return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "tests/test_convergence.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize("rule", list(RULES))
def test_convergence_without_one_rule_fails(copy_of_the_project: Path, rule: str) -> None:
    name, present, absent = RULES[rule]
    module = copy_of_the_project / "tenants" / "mirror" / name
    text = module.read_text()
    assert text.count(present) == 1
    module.write_text(text.replace(present, absent))

    assert converges(copy_of_the_project) == TESTS_FAILED


def test_convergence_with_all_rules_holds(copy_of_the_project: Path) -> None:
    assert converges(copy_of_the_project) == NO_TESTS_FAILED
