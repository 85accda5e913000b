"""Operations on tables that are in use: no other session waits for one of them for longer than a second.

They belong into migrations with `atomic = False`. Each can be repeated: a migration that was interrupted
continues where it stopped.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import OperationalError, transaction
from django.db.migrations.operations import AddConstraint, AddIndex, AlterField
from django.db.migrations.operations.base import Operation
from psycopg.errors import LockNotAvailable

LOCK_TIMEOUT = "500ms"
"""Sessions that come behind an operation wait for as long as the operation waits."""

PAUSE_SECONDS = 1.0
TRIES = 300


class Step(Operation):
    """Run some operations in one transaction, which is repeated until all locks are free.

    For operations that hold their locks briefly: new tables, and new columns that rewrite no row. It is
    done if `table`, or `column` of it, exists.
    """

    def __init__(self, operations: Sequence[Operation], *, table: str, column: str = "") -> None:
        self.operations = operations
        self.table = table
        self.column = column

    def deconstruct(self) -> Any:
        return self.__class__.__name__, [self.operations], {"table": self.table, "column": self.column}

    def state_forwards(self, app_label: str, state: Any) -> None:
        for operation in self.operations:
            operation.state_forwards(app_label, state)

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        def run(editor: Any) -> None:
            before = from_state
            for operation in self.operations:
                after = before.clone()
                operation.state_forwards(app_label, after)
                operation.database_forwards(app_label, editor, before, after)
                before = after

        if not self._is_done(schema_editor):
            patiently(schema_editor, run)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        states = [to_state]
        for operation in self.operations:
            states.append(states[-1].clone())
            operation.state_forwards(app_label, states[-1])

        def run(editor: Any) -> None:
            for number, operation in reversed(list(enumerate(self.operations))):
                operation.database_backwards(app_label, editor, states[number + 1], states[number])

        patiently(schema_editor, run)

    def describe(self) -> str:
        return "; ".join(operation.describe() for operation in self.operations)

    def _is_done(self, schema_editor: Any) -> bool:
        columns = "SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0"
        if self.column:
            return exists(schema_editor, f"{columns} AND attname = %s", self.table, self.column)
        return exists(schema_editor, columns, self.table)


class AddIndexOnline(AddIndex):
    """Add an index while others write."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        build_index(schema_editor, self.index.name, self.index.create_sql(model, schema_editor))


class AddCheckOnline(AddConstraint):
    """Add a check constraint at once for new rows, then look at the old ones while others write."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        name, table = schema_editor.quote_name(self.constraint.name), model._meta.db_table
        sql = self.constraint.create_sql(model, schema_editor)
        if not has_constraint(schema_editor, table, self.constraint.name):
            patiently(schema_editor, lambda editor: editor.execute(f"{sql} NOT VALID", params=None))
        schema_editor.execute(f"ALTER TABLE {schema_editor.quote_name(table)} VALIDATE CONSTRAINT {name}")


class AddUniqueConstraintOnline(AddConstraint):
    """Add a unique constraint whose index is built while others write."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        columns = [model._meta.get_field(field).column for field in self.constraint.fields]
        add_unique(schema_editor, model._meta.db_table, columns, self.constraint.name)


class MakeUniqueOnline(AlterField):
    """Make a field unique; its index is built while others write."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        field = model._meta.get_field(self.name)
        table = model._meta.db_table
        add_unique(schema_editor, table, [field.column], f"{table}_{field.column}_key")
        name = schema_editor._create_index_name(table, [field.column], suffix="_like")
        build_index(schema_editor, name, schema_editor._create_like_index_sql(model, field))


def patiently(schema_editor: Any, action: Callable[[Any], None]) -> None:
    """Call `action` with a schema editor in a transaction of its own, until no lock is missing."""
    connection = schema_editor.connection
    if schema_editor.collect_sql:
        action(schema_editor)
        return
    for tries_left in reversed(range(TRIES)):
        try:
            with transaction.atomic(using=connection.alias), connection.schema_editor(atomic=False) as editor:
                editor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                action(editor)
            return
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable) or not tries_left:
                raise
            time.sleep(PAUSE_SECONDS)


def build_index(schema_editor: Any, name: str, create: Any) -> None:
    """Build an index without keeping writers away; one that was left half built is built again."""
    valid = "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid"
    if exists(schema_editor, valid, schema_editor.quote_name(name)):
        return
    schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(name)}")
    concurrently = str(create).replace("INDEX", "INDEX CONCURRENTLY", 1)
    schema_editor.execute(concurrently, params=None)


def add_unique(schema_editor: Any, table: str, columns: Sequence[str], name: str) -> None:
    """Add a unique constraint over an index that is built first."""
    if has_constraint(schema_editor, table, name):
        return
    quote = schema_editor.quote_name
    listed = ", ".join(map(quote, columns))
    build_index(schema_editor, name, f"CREATE UNIQUE INDEX {quote(name)} ON {quote(table)} ({listed})")
    add = f"ALTER TABLE {quote(table)} ADD CONSTRAINT {quote(name)} UNIQUE USING INDEX {quote(name)}"
    patiently(schema_editor, lambda editor: editor.execute(add))


def has_constraint(schema_editor: Any, table: str, name: str) -> bool:
    """Return whether the table has a constraint of this name."""
    constraints = "SELECT FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s"
    return exists(schema_editor, constraints, schema_editor.quote_name(table), name)


def exists(schema_editor: Any, statement: str, *parameters: str) -> bool:
    """Return whether the statement finds a row."""
    if schema_editor.collect_sql:
        return False
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS ({statement})", parameters)
        return bool(cursor.fetchone()[0])
