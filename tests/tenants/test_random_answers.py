"""Random answers of Clerk's Backend API: valid by its specification, extreme, and of later versions."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from pytest_django import Settings

from clerk_integration.exceptions import ClerkProtocolError
from tenants.models import Tenant
from tenants.reconcile.named import sync_one_organization
from tenants.services import TenantService
from tests.sandbox import Json, SandboxControl
from tests.specification import ValueMaker, specification
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)

BAPI = "bapi-2026-05-12.yml"


class Answers:
    """Makes bodies of Clerk's answers; one record of ten has an id that is no id."""

    def __init__(self, seed: int) -> None:
        self._maker = ValueMaker(BAPI, seed)
        self._schemas: Json = specification(BAPI)["components"]["schemas"]

    def organization(self, organization_id: str) -> tuple[str, bool]:
        """Return the body of an organization, and whether its id is right."""
        record = self._maker.value(self._schemas["Organization"]) or {}
        is_right = self._maker.chance.random() < 0.9
        if is_right:
            record["id"] = organization_id
        return json.dumps(record), is_right

    def memberships(self, user_id: str, organization_id: str | None = None) -> str:
        """Return the body of a list with 1, 3 or 9 memberships."""
        count = self._maker.chance.choice([1, 3, 9])
        total = self._maker.chance.choice([*[count] * 5, 0, None, -1, 10**30, "3"])
        data = [self._membership(user_id, organization_id) for _ in range(count)]
        return json.dumps({"data": data, "total_count": total})

    def _membership(self, user_id: str, organization_id: str | None) -> Any:
        record = self._maker.value(self._schemas["OrganizationMembership"])
        if isinstance(record, dict) and self._maker.chance.random() < 0.9:
            number = self._maker.chance.getrandbits(32)
            record["id"] = f"orgmem_{number}"
            if isinstance(record.get("organization"), dict):
                record["organization"]["id"] = organization_id or f"org_{number}"
            if isinstance(record.get("public_user_data"), dict):
                record["public_user_data"]["user_id"] = user_id
        return record


@pytest.mark.parametrize("rounds", [9, pytest.param(250, marks=pytest.mark.slow)])
def test_random_answers_to_four_calls_cause_no_error_of_ours(
    sandbox: SandboxControl,
    caller: Callable[[], Caller],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    rounds: int,
) -> None:
    settings.CLERK_SYNC_MAX_AGE_SECONDS = 0
    answers, admin = Answers(seed=rounds), caller()
    organization = admin.create("Acme").json()["clerkOrgId"]
    for number in range(rounds):
        cache.clear()  # It counts the requests that the throttles allow.
        # Clerk has no other organization, and a sample of the mirrored ones is asked for.
        Tenant.objects.exclude(clerk_org_id=organization).delete()
        user, wanted = caller(), f"org_get{number}"

        sandbox.fault(f"GET /v1/users/{user.id}/*", body=answers.memberships(user.id), times=5)
        assert user.tenants().status_code == 200

        body, is_right = answers.organization(f"org_created{number}")
        sandbox.fault("POST /v1/organizations", body=body)
        created = user.create()
        assert (created.status_code == 201) is is_right, (created.content, body)

        body, is_right = answers.organization(wanted)
        sandbox.fault(f"GET /v1/organizations/{wanted}", body=body)
        assert _is_tenant(TenantService.get_or_sync_from_clerk, wanted) is is_right, body

        body = answers.memberships(admin.id, organization)
        sandbox.fault(f"GET /v1/organizations/{organization}/memberships", body=body, times=5)
        _is_tenant(sync_one_organization, organization)
        sandbox.clear_faults()

    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


def _is_tenant(call: Callable[[str], Tenant | None], clerk_org_id: str) -> bool:
    """Return whether the call found a tenant; a body that cannot be read at all is the only other outcome."""
    try:
        return call(clerk_org_id) is not None
    except ClerkProtocolError:
        return False
