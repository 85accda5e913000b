"""Every error that the table marks supported, provoked once through the official SDK."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from clerk_backend_api import Clerk
from clerk_backend_api.models import ClerkBaseError, CreateOrganizationRequestBody

from clerk_integration.sandbox.errors import MISSING, SUPPORTED, ErrorRow
from tests.sandbox import SandboxControl, official_sdk


@dataclass(frozen=True)
class Scene:
    """An organization with its only admin, a user outside of it, and the SDK."""

    clerk: Clerk
    sandbox: SandboxControl
    organization: str
    admin: str
    outsider: str

    def create(self, **fields: Any) -> object:
        request = CreateOrganizationRequestBody(**{"name": "Umbrella", **fields})
        return self.clerk.organizations.create(request=request)

    def join(self, user: str) -> object:
        return self.clerk.organization_memberships.create(
            organization_id=self.organization, user_id=user, role="org:member"
        )

    def get(self) -> object:
        return self.clerk.organizations.get(organization_id=self.organization)


@dataclass(frozen=True)
class Provocation:
    """A call that must fail, and what is done before it to the instance or on the way to it."""

    call: Callable[[Scene], object]
    prepare: Callable[[Scene], object] = lambda _: None
    tamper: Callable[[httpx.Request], None] = lambda _: None


def _without_key(request: httpx.Request) -> None:
    del request.headers["Authorization"]


def _with_header(name: str, value: str) -> Callable[[httpx.Request], None]:
    return lambda request: request.headers.__setitem__(name, value)


def _with_unknown_parameter(request: httpx.Request) -> None:
    request.url = request.url.copy_add_param("nam", "Acme")


def _fault(status: int) -> Provocation:
    return Provocation(Scene.get, lambda scene: scene.sandbox.fault("GET *", status=status))


PROVOCATIONS: dict[str, Provocation] = {
    "api_version_invalid": Provocation(Scene.get, tamper=_with_header("Clerk-API-Version", "newest")),
    "already_a_member_in_organization": Provocation(lambda scene: scene.join(scene.admin)),
    "organization_creator_not_found": Provocation(lambda scene: scene.create(created_by="user_nobody")),
    "organization_minimum_permissions_needed": Provocation(
        lambda scene: scene.clerk.organization_memberships.delete(
            organization_id=scene.organization, user_id=scene.admin
        )
    ),
    "authorization_header_format_invalid": Provocation(
        Scene.get, tamper=_with_header("Authorization", "Basic abc")
    ),
    "authentication_invalid": Provocation(Scene.get, tamper=_without_key),
    "clerk_key_invalid": Provocation(Scene.get, tamper=_with_header("Authorization", "Bearer sk_test_other")),
    "org_creation_limit_exceeded": Provocation(
        lambda scene: scene.create(created_by=scene.admin),
        lambda scene: scene.sandbox.settings(organizationsPerUser=1),
    ),
    "organization_membership_quota_exceeded": Provocation(
        lambda scene: scene.join(scene.outsider),
        lambda scene: scene.sandbox.api(
            "PATCH", f"/organizations/{scene.organization}", {"max_allowed_memberships": 1}
        ),
    ),
    "organization_not_enabled_in_instance": Provocation(
        Scene.get, lambda scene: scene.sandbox.organization_settings(enabled=False)
    ),
    "organization_quota_exceeded": Provocation(
        Scene.create, lambda scene: scene.sandbox.settings(organizationQuota=1)
    ),
    "organization_slugs_disabled": Provocation(
        lambda scene: scene.create(slug="umbrella"), lambda scene: scene.sandbox.settings(slugs="disabled")
    ),
    "resource_not_found": Provocation(lambda scene: scene.clerk.organizations.get(organization_id="org_no")),
    "resource_locked": _fault(409),
    "request_body_too_large": Provocation(
        lambda scene: scene.create(public_metadata={"text": "x" * 1024 * 1024})
    ),
    "form_identifier_exists": Provocation(lambda scene: scene.create(slug="acme")),
    "form_param_exceeds_allowed_size": Provocation(
        lambda scene: scene.create(public_metadata={"text": "x" * 8 * 1024})
    ),
    "form_param_format_invalid": Provocation(lambda scene: scene.create(slug="Umbrella")),
    "form_param_max_length_exceeded": Provocation(lambda scene: scene.create(name="x" * 257)),
    "form_param_missing": Provocation(lambda scene: scene.create(name="")),
    "form_param_unknown": Provocation(Scene.get, tamper=_with_unknown_parameter),
    "form_param_value_invalid": Provocation(lambda scene: scene.clerk.organizations.list(limit=501)),
    "form_resource_not_found": Provocation(lambda scene: scene.create(role_set_key="role_set:other")),
    "too_many_requests": Provocation(Scene.get, lambda scene: scene.sandbox.fault("GET *", rateLimit=7)),
    "internal_clerk_error": _fault(500),
    "service_unavailable": _fault(503),
    "gateway_timeout": _fault(504),
}

PARAMETERS = {
    "form_identifier_exists": "slug",
    "form_param_exceeds_allowed_size": "public_metadata",
    "form_param_format_invalid": "slug",
    "form_param_max_length_exceeded": "name",
    "form_param_missing": "name",
    "form_param_unknown": "nam",
    "form_param_value_invalid": "limit",
    "form_resource_not_found": "role_set_key",
}
"""The `meta.param_name` of these errors; the others have none."""

BY_BYTES = {"bad_request", "request_body_invalid"}
"""Codes for what the SDK cannot send; provoked in the tests of the server."""


def _by_code(row: ErrorRow) -> str:
    return row.code


def test_error_table_has_one_row_per_code() -> None:
    codes = [row.code for row in SUPPORTED] + [code for codes in MISSING.values() for code in codes]

    assert len(set(codes)) == len(codes)


def test_every_supported_error_is_provoked() -> None:
    assert {row.code for row in SUPPORTED} == set(PROVOCATIONS) | BY_BYTES


@pytest.mark.parametrize("row", [row for row in SUPPORTED if row.code in PROVOCATIONS], ids=_by_code)
def test_provoked_error_has_its_status_code_and_parameter(row: ErrorRow, sandbox: SandboxControl) -> None:
    provocation = PROVOCATIONS[row.code]
    admin, outsider = sandbox.user()["id"], sandbox.user()["id"]
    organization = sandbox.organization("Acme", admin, slug="acme")["id"]

    with official_sdk(sandbox.description, on_request=provocation.tamper) as clerk:
        scene = Scene(clerk, sandbox, organization, admin, outsider)
        provocation.prepare(scene)
        with pytest.raises(ClerkBaseError) as caught:
            provocation.call(scene)

    error = httpx.Response(200, content=caught.value.body).json()["errors"][0]
    assert (caught.value.status_code, error["code"]) == (row.status, row.code)
    assert error.get("meta", {}).get("param_name") == PARAMETERS.get(row.code)
    assert error["message"]
    assert error["long_message"]
