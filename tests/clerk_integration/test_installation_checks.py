"""System checks of the project; `tests.installation` has those that need another project."""

import pytest
from pytest_django import Settings

from clerk_integration.installation_checks import TENANT_MIDDLEWARE, USER_MIDDLEWARE, check_installation


@pytest.mark.parametrize(
    ("middleware", "codes"),
    [
        ([USER_MIDDLEWARE, TENANT_MIDDLEWARE], []),
        ([TENANT_MIDDLEWARE, USER_MIDDLEWARE], ["clerk.E033"]),
        ([TENANT_MIDDLEWARE], []),
        ([], []),
    ],
)
def test_check_of_the_order_of_middleware_reports_a_tenant_before_its_user(
    settings: Settings, middleware: list[str], codes: list[str]
) -> None:
    settings.MIDDLEWARE = middleware

    assert [message.id for message in check_installation()] == codes
