"""PostgreSQL's row-level security, so that raw SQL stays inside the current tenant too.

A policy compares a row's tenant with a setting of the transaction. The setting is made before the first
statement of a transaction, when the current tenant has changed, and after a rollback to a savepoint, which
restores an older value. It is never made for a session, because with PgBouncer in transaction mode the
session serves other clients in between. Outside a transaction, each statement therefore gets a transaction of
its own. Without the setting, no row is visible.

PostgreSQL applies no policy to superusers and to roles with BYPASSRLS.
"""

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Model
from psycopg.pq import TransactionStatus

from tenants.scoping.context import are_scopes_disabled, known_tenant
from tenants.sql import ALL_TENANTS_SETTING, TENANT_SETTING

POLICY = "tenant_row_security"

NO_ROWS = ("", "off")
"""The values of the two settings without a current tenant."""

SET = f"SELECT set_config('{TENANT_SETTING}', %s, true), set_config('{ALL_TENANTS_SETTING}', %s, true)"
IS_USED = "SELECT EXISTS (SELECT FROM pg_policy WHERE polname = %s)"

ENABLE = f"""
ALTER TABLE {{table}} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {{table}} FORCE ROW LEVEL SECURITY;
CREATE POLICY {{policy}} ON {{table}}
    USING ({{condition}} OR current_setting('{ALL_TENANTS_SETTING}', true) = 'on')
"""
DISABLE = """
DROP POLICY {policy} ON {table};
ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;
ALTER TABLE {table} DISABLE ROW LEVEL SECURITY
"""
IS_CURRENT = f"{{column}} = nullif(current_setting('{TENANT_SETTING}', true), '')::bigint"

_uses_policies: dict[tuple[str, str], bool] = {}
"""Whether a database has a policy, by its host and name; looked up when a process first needs to know."""


class EnableTenantRowSecurity(Operation):
    """Show and change only the current tenant's rows of a model's table, also in raw SQL.

    `tenant_path` leads to the tenant as that of the model's manager does, for example `order__tenant`. Code
    that needs the rows of all tenants, data migrations included, runs inside `scopes_disabled`.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, model: str, tenant_path: str = "tenant") -> None:
        self.model = model
        self.tenant_path = tenant_path

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: row-level security is not part of Django's migration state."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the policy."""
        self._execute(schema_editor, to_state, ENABLE)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Drop the policy."""
        self._execute(schema_editor, from_state, DISABLE)

    def describe(self) -> str:
        """Return one line for the output of `migrate`."""
        return f"Enable row-level security by tenant on {self.model}"

    def _execute(self, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, statements: str) -> None:
        model = state.apps.get_model(self.model)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        quote = schema_editor.quote_name
        condition = _condition(model, self.tenant_path.split("__"), quote)
        names = {"table": quote(model._meta.db_table), "policy": quote(POLICY), "condition": condition}
        for statement in statements.format(**names).split(";"):
            schema_editor.execute(statement, params=None)


class TransactionSettings:
    """Sets the settings that the policies read, before the statements of one connection are executed."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection: Any = connection
        self._made: tuple[str, str] | None = NO_ROWS
        """The values in PostgreSQL; None if they are unknown."""

    def __call__(self, execute: Callable[..., Any], *statement: Any) -> Any:
        """Execute the statement for the current tenant."""
        try:
            return self._execute(execute, *statement)
        finally:
            if self._uses_policies() and _may_roll_back(statement[0]):
                self._made = None

    def _execute(self, execute: Callable[..., Any], *statement: Any) -> Any:
        status = self._connection.connection.pgconn.transaction_status
        if status == TransactionStatus.INERROR:
            return execute(*statement)
        if status == TransactionStatus.IDLE:
            self._made = NO_ROWS
        wanted = self._wanted()
        if wanted != NO_ROWS and not self._connection.in_atomic_block:
            with transaction.atomic(using=self._connection.alias):
                self._make(wanted)
                return execute(*statement)
        self._make(wanted)
        return execute(*statement)

    def _wanted(self) -> tuple[str, str]:
        if are_scopes_disabled():
            wanted = ("", "on")
        else:
            tenant = known_tenant()
            wanted = NO_ROWS if tenant is None else (str(tenant.pk), "off")
        return wanted if wanted == NO_ROWS or self._is_needed() else NO_ROWS

    def _is_needed(self) -> bool:
        key = self._database_key()
        if key not in _uses_policies:
            [_uses_policies[key]] = self._connection.connection.execute(IS_USED, [POLICY]).fetchone()
        return _uses_policies[key]

    def _uses_policies(self) -> bool:
        """Return whether the database is known to have a policy; send no statement."""
        return _uses_policies.get(self._database_key(), False)

    def _database_key(self) -> tuple[str, str]:
        database = self._connection.settings_dict
        return database["HOST"], database["NAME"]

    def _make(self, wanted: tuple[str, str]) -> None:
        if wanted != self._made:
            self._connection.connection.execute(SET, wanted)
            self._made = wanted


def watch_connection(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Let a new connection apply row-level security; a receiver of `connection_created`."""
    wrappers = connection.execute_wrappers
    if connection.vendor == "postgresql" and not any(
        isinstance(one, TransactionSettings) for one in wrappers
    ):
        wrappers.append(TransactionSettings(connection))


def _may_roll_back(sql: Any) -> bool:
    """Return whether a statement may contain a rollback to a savepoint."""
    return not isinstance(sql, str) or "rollback" in sql.lower()


def _condition(model: type[Model], path: list[str], quote: Callable[[str], str]) -> str:
    """Return the SQL condition that a row of the model belongs to the current tenant."""
    field: Any = model._meta.get_field(path[0])
    column = f"{quote(model._meta.db_table)}.{quote(field.column)}"
    if len(path) == 1:
        return IS_CURRENT.format(column=column)
    owner = field.related_model
    key = f"{quote(owner._meta.db_table)}.{quote(owner._meta.pk.column)}"
    return (
        f"EXISTS (SELECT FROM {quote(owner._meta.db_table)} WHERE {key} = {column}"
        f" AND {_condition(owner, path[1:], quote)})"
    )
