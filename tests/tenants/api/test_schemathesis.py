"""Generated requests against the OpenAPI document that the running API serves."""

import math
import os
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

CASES = int(os.environ.get("SCHEMATHESIS_CASES", "560"))
"""The generated requests of all tests of this module together."""

NOT_CHECKED = [positive_data_acceptance, negative_data_rejection]
"""What the document does not say: `status` is for staff, and an empty query parameter counts as missing."""

REACHED = {"signed in": {200, 201, 400, 404}, "anonymous": {401}}
"""Statuses without which the requests of a caller would prove little."""


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("caller_name", list(REACHED))
def test_api_given_generated_requests_answers_as_its_document_says(
    sandbox: SandboxControl, ada: Caller, caller_name: str
) -> None:
    """Allow no 5xx, no status that the document lacks, and no body or header of another shape."""
    schema: Any = schemathesis.openapi.from_wsgi("/api/v1/schema?format=json", get_wsgi_application())
    operations = [result.ok() for result in schema.get_all_operations()]
    token = sandbox.token(ada.id, expiresIn=3600)
    headers = {"Authorization": f"Bearer {token}"} if caller_name == "signed in" else {}
    cases = math.ceil(CASES / len(REACHED) / len(operations))

    statuses = {
        status for operation in operations for status in check(operation, ada.create().json(), headers, cases)
    }

    assert statuses >= REACHED[caller_name]


def check(operation: Any, tenant: dict[str, Any], headers: dict[str, str], cases: int) -> list[int]:
    """Send valid and invalid requests to one operation, most valid ones for `tenant`; return the statuses."""
    existing = {"id": tenant["id"], "slug": tenant["slug"], "clerk_org_id": tenant["clerkOrgId"]}
    requests = st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode])
    statuses: list[int] = []

    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=requests, exists=st.sampled_from([True, True, True, False]))
    def send(case: Any, exists: bool) -> None:
        if exists and case.meta.generation.mode == GenerationMode.POSITIVE:
            case.path_parameters.update({name: existing[name] for name in case.path_parameters})
        response = case.call_and_validate(headers=headers, excluded_checks=NOT_CHECKED)
        statuses.append(response.status_code)

    send()
    return statuses
