"""Show that the leak tests fail without any one of the rules of scoping."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]

PROJECT = Path(__file__).resolve().parents[3]
PARTS = ("clerk_integration", "config", "templates", "tenants", "tests", "manage.py", "pyproject.toml")
NO_TESTS_FAILED, TESTS_FAILED = 0, 1

RULES = {
    "the filter of managers": (
        "managers.py",
        "return super().get_queryset().filter(**{self.tenant_path: CurrentTenantId()})",
        "return super().get_queryset()",
    ),
    "the path of managers": ("managers.py", '(own,), {"tenant_path": tenant_path}', "(own,), {}"),
    "the tenant that is set on new rows": ("writes.py", "setattr(row, path, tenant)", "pass"),
    "the check of saved rows": (
        "writes.py",
        "!= tenant.pk:\n            raise cross",
        "is None:\n            raise cross",
    ),
    "the check of the stored row of a line": (
        "writes.py",
        "if stored.exclude(**{path: require_tenant().pk}).exists():",
        "if False:",
    ),
    "the check of the stored row": (
        "models.py",
        "updated = update(base_qs.filter(tenant=CurrentTenantId()), using, pk_val, *args)",
        "updated = update(base_qs, using, pk_val, *args)",
    ),
    "the check of updated values": ("writes.py", "if is_own_key or is_foreign:", "if False:"),
    "the check of bulk writes": ("managers.py", "        check_row(row)\n", "        pass\n"),
    "the check of deletions": ("models.py", "        check_row(self)\n", ""),
    "the membership of the header's tenant": (
        "resolution.py",
        "return memberships.filter(clerk_user_id=user.clerk_user_id, **tenant).first()",
        "return memberships.filter(**tenant).first()",
    ),
    "the active membership": (
        "resolution.py",
        "return membership if is_usable(membership) else None",
        "return membership",
    ),
    "the tenant of a job": (
        "tasks.py",
        "return _run_for(kwargs.pop(CARRIED, None),",
        "return _run_for(kwargs.pop(CARRIED) and None,",
    ),
    "the policy's condition": ("row_security.py", "USING ({{condition}} OR", "USING (true OR"),
    "the setting of the policy": (
        "row_security.py",
        "self._connection.connection.execute(SET, wanted)",
        "pass",
    ),
    "the scoping of views' querysets": (
        "viewsets.py",
        "return scoped(super().get_queryset())",
        "return super().get_queryset()",
    ),
    "the scoping of related fields": ("viewsets.py", "field.queryset = scoped(queryset.all())", "pass"),
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


def run_tests(project: Path) -> int:
    """Run the tests of scoping in the project and return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "tests/tenants/scoping"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize("rule", list(RULES))
def test_scoping_without_one_rule_fails(copy_of_the_project: Path, rule: str) -> None:
    name, present, absent = RULES[rule]
    module = copy_of_the_project / "tenants" / "scoping" / name
    text = module.read_text()
    assert text.count(present) == 1
    module.write_text(text.replace(present, absent))

    assert run_tests(copy_of_the_project) == TESTS_FAILED


def test_scoping_with_all_rules_holds(copy_of_the_project: Path) -> None:
    assert run_tests(copy_of_the_project) == NO_TESTS_FAILED
