"""The setting that the policies read, in transactions with savepoints and outside of transactions."""

from collections.abc import Iterator

import pytest
from django.db import DataError, connection, transaction
from psycopg import sql

from tenants.models import Tenant
from tenants.scoping import scopes_disabled, tenant_context
from tests.tenants.scoping.conftest import become_unprivileged, grant_to_unprivileged

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("unprivileged")]


@pytest.fixture
def unprivileged(db: None) -> Iterator[None]:
    """Let the policies apply: PostgreSQL applies none to the superuser of the tests."""
    grant_to_unprivileged(connection)
    become_unprivileged(connection)
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")


def numbers() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT number FROM invoicing_invoice ORDER BY number")
        return [number for (number,) in cursor.fetchall()]


def roll_back_savepoint() -> None:
    with transaction.atomic():
        numbers()
        transaction.set_rollback(True)


def test_raw_sql_in_nested_contexts_of_one_transaction_reads_the_current_tenant_s_rows(
    acme: Tenant, globex: Tenant
) -> None:
    with transaction.atomic():
        assert numbers() == []
        with tenant_context(acme):
            assert numbers() == ["A-1", "A-2"]
            with tenant_context(globex), transaction.atomic():
                assert numbers() == ["G-1"]
            assert numbers() == ["A-1", "A-2"]
        assert numbers() == []


@pytest.mark.parametrize(
    "statement", ["ROLLBACK TO SAVEPOINT {}", "rollback to {}", "SELECT 1; ROLLBACK TO {}"]
)
def test_raw_sql_after_a_rollback_to_an_outer_context_s_savepoint_reads_the_current_tenant_s_rows(
    acme: Tenant, globex: Tenant, statement: str
) -> None:
    with transaction.atomic():
        with tenant_context(acme):
            savepoint = str(transaction.savepoint())
        with tenant_context(globex), connection.cursor() as cursor:
            assert numbers() == ["G-1"]
            cursor.execute(statement.format(savepoint))
            assert numbers() == ["G-1"]


def test_raw_sql_after_a_rollback_by_a_composed_statement_reads_the_current_tenant_s_rows(
    acme: Tenant, globex: Tenant
) -> None:
    with transaction.atomic():
        with tenant_context(acme):
            savepoint = str(transaction.savepoint())
        with tenant_context(globex), connection.cursor() as cursor:
            assert numbers() == ["G-1"]
            cursor.execute(sql.SQL("ROLLBACK TO {}").format(sql.Identifier(savepoint.strip('"'))))
            assert numbers() == ["G-1"]


def test_raw_sql_after_a_rolled_back_savepoint_reads_the_rows_of_the_current_tenant_or_none(
    acme: Tenant, globex: Tenant
) -> None:
    with transaction.atomic():
        with scopes_disabled():
            assert numbers() == ["A-1", "A-2", "G-1"]
        with tenant_context(globex):
            roll_back_savepoint()
            assert numbers() == ["G-1"]
        roll_back_savepoint()
        assert numbers() == []


def test_raw_sql_after_a_failed_statement_in_a_savepoint_reads_the_current_tenant_s_rows(
    acme: Tenant, globex: Tenant
) -> None:
    with transaction.atomic():
        with tenant_context(acme):
            savepoint = transaction.savepoint()
        with tenant_context(globex):
            with pytest.raises(DataError), connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
            transaction.savepoint_rollback(savepoint)
            assert numbers() == ["G-1"]
