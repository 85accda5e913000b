"""Empty the database after a test that committed rows, in milliseconds.

Django truncates every table and then creates the permissions and content types again, which takes a
tenth of a second. This module empties only the tables that have rows.
"""

from functools import cache

from django.apps import apps
from django.db import connection, transaction
from django.test import TransactionTestCase

KEPT = {
    "auth_group",
    "auth_group_permissions",
    "auth_permission",
    "django_content_type",
    "django_migrations",
    "installation",
}
"""The tables that `migrate` fills."""

QUEUE = ["procrastinate_periodic_defers", "procrastinate_jobs", "procrastinate_workers"]
"""The tables of the background queue, which Django does not manage, in the order of their foreign keys."""

WRITTEN_BY_TRIGGERS = "tenant_history"
"""Emptied last, because the deletion of other rows writes it."""

TRUNCATE_ABOVE_BYTES = 1024 * 1024
"""DELETE leaves dead rows behind, which slow down the next tests if they are many."""


def empty_tables(test_case: TransactionTestCase) -> None:
    """Delete the committed rows of a test."""
    small, large = _tables_with_rows()
    # Django's foreign keys are deferred: within one transaction the order of its tables does not matter.
    with transaction.atomic(), connection.cursor() as cursor:
        for table in large:
            cursor.execute(f"TRUNCATE {_quoted(table)} CASCADE")
        if small:
            statements = [f"DELETE FROM {_quoted(table)}" for table in [*small, WRITTEN_BY_TRIGGERS]]
            cursor.execute("; ".join(statements))


def _tables_with_rows() -> tuple[list[str], list[str]]:
    """Return the names of the small and of the large tables that have rows."""
    with connection.cursor() as cursor:
        cursor.execute(_tables_query())
        found = cursor.fetchall()
    return [name for name, is_large in found if not is_large], [name for name, is_large in found if is_large]


@cache
def _tables_query() -> str:
    parts = [
        f"SELECT '{name}', pg_relation_size('{name}') > {TRUNCATE_ABOVE_BYTES}"
        f" WHERE EXISTS (SELECT FROM {_quoted(name)})"
        for name in [*sorted(_managed_tables() - KEPT), *QUEUE]
    ]
    return " UNION ALL ".join(parts)


def _managed_tables() -> set[str]:
    models = apps.get_models(include_auto_created=True)
    return {model._meta.db_table for model in models if model._meta.managed and not model._meta.proxy}


def _quoted(table: str) -> str:
    return connection.ops.quote_name(table)
