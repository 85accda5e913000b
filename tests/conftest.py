"""Fixtures for all tests."""

import pytest
from django.test import TransactionTestCase

from tenants.testing import ClerkSandbox
from tests.cleanup import empty_tables
from tests.sandbox import SandboxControl

TransactionTestCase._fixture_teardown = empty_tables  # type: ignore[attr-defined]  # not in the stubs


@pytest.fixture
def sandbox(clerk_sandbox: ClerkSandbox) -> SandboxControl:
    """An empty local Clerk, configured in Django's settings."""
    return SandboxControl(clerk_sandbox.description, clerk_sandbox.http)
