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

RULES = {
    "the version of organizations": (
        "coalesce(tenants.clerk_updated_at, 0) <= coalesce({incoming}.clerk_updated_at, 0)\n    AND (ten",
        "true\n    AND (ten",
    ),
    "the tombstones of organizations": (
        "SELECT FROM tombstones WHERE kind = 'organization' AND clerk_id = incoming.clerk_org_id)",
        "SELECT WHERE false)",
    ),
    "the tombstones of memberships": (
        "SELECT FROM tombstones WHERE kind = 'membership' AND clerk_id = incoming.clerk_membership_id)",
        "SELECT WHERE false)",
    ),
    "the tombstones of users": (
        "SELECT FROM tombstones WHERE kind = 'user' AND clerk_id = incoming.clerk_user_id)",
        "SELECT WHERE false)",
    ),
    "the order of two memberships": (
        "ELSE coalesce(memberships.clerk_created_at, 0) < coalesce({incoming}.clerk_created_at, 0)",
        "ELSE true",
    ),
    "the version of memberships": (
        "THEN coalesce(memberships.clerk_updated_at, 0) <= coalesce({incoming}.clerk_updated_at, 0)",
        "THEN true",
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
    statements = copy_of_the_project / "tenants" / "mirror" / "statements.py"
    text = statements.read_text()
    present, absent = RULES[rule]
    assert text.count(present) == 1
    statements.write_text(text.replace(present, absent))

    assert converges(copy_of_the_project) == TESTS_FAILED


def test_convergence_with_all_rules_holds(copy_of_the_project: Path) -> None:
    assert converges(copy_of_the_project) == NO_TESTS_FAILED
