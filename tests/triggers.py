"""Let the database do something at a write, for tests that need an event in the middle of an operation."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

CREATE = """
CREATE FUNCTION test_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN NULL; END$$;
CREATE TRIGGER test_trigger AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION test_trigger();
"""


@contextmanager
def at_insert(table: str, body: str) -> Iterator[None]:
    """Execute `body`, in PL/pgSQL, after each INSERT into the table, within the same transaction."""
    with connection.cursor() as cursor:
        cursor.execute(CREATE.format(table=table, body=body))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION test_trigger CASCADE")
