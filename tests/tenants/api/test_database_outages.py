"""The REST API while the database is down, accepts no writes, or has its rows locked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from tenants.models import Tenant
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def other_session(database: str | None = None) -> Iterator[psycopg.Connection[Any]]:
    found = connection.settings_dict
    with psycopg.connect(
        host=found["HOST"],
        port=found["PORT"],
        user=found["USER"],
        password=found["PASSWORD"],
        dbname=database or found["NAME"],
        autocommit=True,
    ) as session:
        yield session


@pytest.fixture
def no_connections(db: None) -> Iterator[None]:
    """Refuse new connections to the database, and close the one of the test."""
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    name = sql.Identifier(connection.settings_dict["NAME"])
    connection.close()
    with other_session("postgres") as session:
        session.execute(allow.format(name, sql.SQL("false")))
        yield
        session.execute(allow.format(name, sql.SQL("true")))


@contextmanager
def read_only() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")


def error(response: Any) -> tuple[int, str, str | None]:
    """Return status, code and Retry-After; check the shape of the response."""
    [problem] = response.json()["errors"]
    assert set(problem) == {"code", "detail", "attr"}
    return response.status_code, problem["code"], response.headers.get("Retry-After")


@pytest.mark.usefixtures("no_connections")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tenants/me/get-tenants"),
        ("GET", "/tenants/me/primary-id"),
        ("POST", "/tenants/create"),
        ("PATCH", "/tenants/1/set-primary"),
    ],
)
def test_request_while_the_database_is_down_is_503_in_one_log_line(
    ada: Caller, caplog: pytest.LogCaptureFixture, method: str, path: str
) -> None:
    response = ada.request(method, path, {"name": "Acme"})

    assert error(response) == (503, "database_unavailable", "5")
    [record] = [record for record in caplog.records if record.name != "httpx"]
    assert record.exc_info is None
    assert "\n" not in record.getMessage()


def test_read_while_the_database_accepts_no_writes_is_answered(sandbox: SandboxControl, ada: Caller) -> None:
    created = ada.create("Acme").json()

    with read_only():
        listed = ada.tenants()
        others = [ada.get("/tenants/me/primary-id"), ada.get(f"/tenants/{created['id']}")]

    assert (listed.status_code, listed.headers["X-Clerk-Sync"]) == (200, "stale")
    assert [tenant["id"] for tenant in listed.json()] == [created["id"]]
    assert [response.status_code for response in others] == [200, 200]


def test_write_while_the_database_accepts_no_writes_is_503_and_calls_no_clerk(
    sandbox: SandboxControl, ada: Caller
) -> None:
    created = ada.create("Acme").json()
    sandbox.clear_requests()

    with read_only():
        refused = [ada.create("Other"), ada.request("PATCH", f"/tenants/{created['id']}/set-primary")]

    assert [error(response) for response in refused] == [(503, "database_read_only", "5")] * 2
    assert sandbox.requests() == []


def test_requests_while_rows_are_locked_are_stale_or_503(
    sandbox: SandboxControl, ada: Caller, legacy: Callable[..., Tenant]
) -> None:
    created = ada.create("Acme").json()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '100ms'")
    with other_session() as locking, locking.transaction():
        locking.execute("LOCK TABLE tenants, memberships, user_syncs IN EXCLUSIVE MODE")
        listed = ada.tenants()
        refused = ada.request("PATCH", f"/tenants/{created['id']}/set-primary")

    assert (listed.status_code, listed.headers["X-Clerk-Sync"]) == (200, "stale")
    assert [tenant["id"] for tenant in listed.json()] == [created["id"]]
    assert error(refused) == (503, "database_busy", "5")
