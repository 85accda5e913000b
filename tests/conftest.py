"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest
from django.test import TransactionTestCase
from pytest_django import Settings

from clerk_integration.instance import instance_of_key
from clerk_integration.sandbox.server import SandboxServer
from clerk_integration.wire import breaker
from tests.cleanup import empty_tables
from tests.sandbox import SandboxControl

TransactionTestCase._fixture_teardown = empty_tables  # type: ignore[attr-defined]  # not in the stubs


@pytest.fixture(scope="session")
def sandbox_server() -> Iterator[SandboxServer]:
    """The local Clerk of the whole run; tests use `sandbox`, which empties it first."""
    server = SandboxServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sandbox(sandbox_server: SandboxServer, settings: Settings) -> Iterator[SandboxControl]:
    """An empty local Clerk, configured in Django's settings."""
    description = sandbox_server.description
    settings.CLERK_SECRET_KEY = description["secretKey"]
    settings.CLERK_API_URL = description["apiUrl"]
    settings.CLERK_JWT_KEY = description["jwtKey"]
    settings.CLERK_ISSUER = description["issuer"]
    settings.CLERK_INSTANCE_ID = description["instanceId"]
    breaker.reset()
    control = SandboxControl(description)
    instance_of_key()  # Asked once per process and key; no test counts this request.
    control.reset()
    yield control
    control.close()
