"""Run raw SQL statements with named parameters."""

import json
from collections.abc import Iterable
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, Func, QuerySet

JSONB_OID = 3802
"""PostgreSQL's OID of the type jsonb. Django's cursors return jsonb values as text."""


TENANT_SETTING, ALL_TENANTS_SETTING = "tenants.tenant_id", "tenants.all_tenants"
"""Settings of a transaction that row-level security compares with; see `tenants.scoping.row_security`."""


class ClockTimestamp(Func):
    """The database's time when the row is written; `Now()` is the time when the statement began."""

    function = "clock_timestamp"
    output_field = DateTimeField()


def json_array(queryset: QuerySet[Any, Any], **placeholders: str) -> tuple[str, dict[str, Any]]:
    """Return an SQL expression for the queryset's rows as a JSON array, and its parameters.

    For a query that is built once and run often. A value of `placeholders` that occurs in the queryset
    becomes a named parameter without a value: pass the value when you run the statement.
    """
    sql, values = queryset.query.sql_with_params()
    names = {value: name for name, value in placeholders.items()}
    keys = [names.get(value, f"constant_{number}") for number, value in enumerate(values)]
    constants = {key: value for key, value in zip(keys, values, strict=True) if key not in placeholders}
    rows = sql % tuple(f"%({key})s" for key in keys)
    # json_agg keeps the order of a sorted subquery, as PostgreSQL's documentation of aggregates says.
    return f"coalesce((SELECT json_agg(row) FROM ({rows}) AS row), '[]')", constants


def text_array(values: Iterable[str]) -> str:
    """Return the strings as a PostgreSQL array, in a tenth of the time that psycopg takes for a list."""
    quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return '{"' + '","'.join(quoted) + '"}' if quoted else "{}"


def execute(statement: str, **parameters: Any) -> None:
    """Run a statement and return nothing."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def query(statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows, with jsonb values parsed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        is_json = [column.type_code == JSONB_OID for column in cursor.description]
        return [tuple(map(_read, row, is_json)) for row in cursor.fetchall()]


def see_all_tenants() -> None:
    """Let row-level security show the rows of all tenants until the transaction ends."""
    execute(f"SELECT set_config('{ALL_TENANTS_SETTING}', 'on', true)")


def _read(value: Any, is_json: bool) -> Any:
    return json.loads(value) if is_json and value is not None else value
