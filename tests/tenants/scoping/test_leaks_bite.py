"""Show that the leak tests fail without any one of the rules of scoping."""

from pathlib import Path

import pytest

from tests.removed_rules import NO_TESTS_FAILED, TESTS_FAILED, copy_project, remove_rule, run_tests

TESTS = "tests/tenants/scoping/test_leaks.py"

RULES = {
    "the filter of managers": (
        "managers.py",
        "return super().get_queryset().filter(**{self.tenant_path: CurrentTenantId()})",
        "return super().get_queryset()",
    ),
    "the path of managers": (
        "managers.py",
        'self.__class__ = type(own.__name__, (own,), {"tenant_path": tenant_path})',
        "self.tenant_path = tenant_path",
    ),
    "the tenant that is set on new rows": ("writes.py", "setattr(row, path, tenant)", "pass"),
    "the tenant of saved rows": ("writes.py", "if getattr(row, attname) != tenant.pk:", "if False:"),
    "the tenant of referred rows in memory": (
        "references.py",
        "if related is not None and _tenant_id(related,",
        "if False and (related,",
    ),
    "the tenant of rows that are referred to by id": ("references.py", "if elsewhere:", "if False:"),
    "the check of the stored row of a line": (
        "managers.py",
        "        check_updates(cls)\n",
        "",
    ),
    "the check of the stored row": (
        "models.py",
        "updated = update(base_qs.filter(tenant=CurrentTenantId()), using, pk_val, *args)",
        "updated = update(base_qs, using, pk_val, *args)",
    ),
    "the check of an updated tenant": ("writes.py", "    _check_new_tenant(field, value)", "    pass"),
    "the check of updated foreign keys": ("writes.py", "check_key(relations[field], value, using)", "pass"),
    "the check of bulk_create": (
        "managers.py",
        "check_rows(rows, using=self._write_db(), may_refer_to_each_other=are_inserted)",
        "pass",
    ),
    "the check of bulk_update": (
        "managers.py",
        "check_rows(rows, using=self._write_db(), written=names)",
        "pass",
    ),
    "the check of upserts": ("managers.py", "        if update_conflicts:", "        if False:"),
    "the check of deletions": ("managers.py", "        check_deletions(cls)\n", ""),
    "the check of the stored row of a deletion": (
        "writes.py",
        "_check_own_tenant(row, path)\n    check_stored_rows([row], using)\n",
        "_check_own_tenant(row, path)\n",
    ),
    "the check of added rows": ("managers.py", "        check_additions(cls)\n", ""),
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
    "the setting after a rollback to a savepoint": ("row_security.py", "self._made = None", "pass"),
    "the scoping of views' querysets": (
        "viewsets.py",
        "return scoped(super().get_queryset())",
        "return super().get_queryset()",
    ),
    "the scoping of related fields": ("viewsets.py", "field.queryset = scoped(queryset.all())", "pass"),
}


@pytest.mark.parametrize(
    "rule",
    # CI takes away every fourth rule; the others are taken away by hand (-m manual).
    [
        pytest.param(rule, marks=pytest.mark.slow if number % 4 == 0 else pytest.mark.manual)
        for number, rule in enumerate(RULES)
    ],
)
def test_scoping_without_one_rule_fails(tmp_path: Path, rule: str) -> None:
    name, present, absent = RULES[rule]
    project = copy_project(tmp_path)
    remove_rule(project / "tenants" / "scoping" / name, present, absent)

    assert run_tests(project, TESTS) == TESTS_FAILED


@pytest.mark.slow
def test_scoping_with_all_rules_holds(tmp_path: Path) -> None:
    assert run_tests(copy_project(tmp_path), TESTS) == NO_TESTS_FAILED
