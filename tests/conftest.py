"""Fixtures for all tests."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.test import TransactionTestCase
from pytest_django import Settings

from tenants.testing import ClerkSandbox
from tests.cleanup import empty_tables
from tests.sandbox import SandboxControl
from tests.workers import Workers, database_url, workers_on

TransactionTestCase._fixture_teardown = empty_tables  # type: ignore[attr-defined]  # not in the stubs


@pytest.fixture
def sandbox(clerk_sandbox: ClerkSandbox) -> Iterator[SandboxControl]:
    """An empty local Clerk, configured in Django's settings."""
    control = SandboxControl(clerk_sandbox.description)
    yield control
    control.close()


@pytest.fixture
def new_york_without_use_tz(settings: Settings) -> None:
    """Run the test as in a project with `USE_TZ = False`, whose times have no zone and are in New York's."""
    settings.USE_TZ = False
    settings.TIME_ZONE = "America/New_York"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in captured output: xdist cannot send them, and its worker would crash."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Start worker processes on an empty queue; they are killed after the test."""
    with workers_on(tmp_path) as started:
        yield started


@pytest.fixture
def new_database(transactional_db: None) -> Iterator[str]:
    """The URL of a database without tables."""
    name = f"{connection.settings_dict['NAME']}_new"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    yield database_url().replace(f"/{connection.settings_dict['NAME']}?", f"/{name}?")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
