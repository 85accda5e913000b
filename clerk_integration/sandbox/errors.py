"""A table of Clerk's error codes, and the exception for an error response with one of the codes."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class ErrorRow(NamedTuple):
    """One error code from Clerk's documentation."""

    status: int
    code: str
    message: str


SUPPORTED: tuple[ErrorRow, ...] = (
    ErrorRow(400, "api_version_invalid", "Invalid API version"),
    ErrorRow(400, "already_a_member_in_organization", "Already a member of the organization"),
    ErrorRow(400, "bad_request", "Bad request"),
    ErrorRow(400, "organization_creator_not_found", "Organization creator not found"),
    ErrorRow(400, "organization_minimum_permissions_needed", "The organization needs an admin"),
    ErrorRow(400, "request_body_invalid", "Request body invalid"),
    ErrorRow(401, "authorization_header_format_invalid", "Invalid Authorization header format"),
    ErrorRow(401, "authentication_invalid", "Invalid authentication"),
    ErrorRow(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid"),
    ErrorRow(403, "org_creation_limit_exceeded", "Organization creation limit exceeded"),
    ErrorRow(403, "organization_membership_quota_exceeded", "Organization membership quota exceeded"),
    ErrorRow(403, "organization_not_enabled_in_instance", "Organizations are not enabled for this instance"),
    ErrorRow(403, "organization_quota_exceeded", "Organization quota exceeded"),
    ErrorRow(403, "organization_slugs_disabled", "Organization slugs are disabled"),
    ErrorRow(404, "resource_not_found", "Resource not found"),
    ErrorRow(409, "resource_locked", "Resource locked"),
    ErrorRow(413, "request_body_too_large", "Request body too large"),
    ErrorRow(422, "form_identifier_exists", "That identifier is taken"),
    ErrorRow(422, "form_param_exceeds_allowed_size", "Parameter exceeds the allowed size"),
    ErrorRow(422, "form_param_format_invalid", "Parameter has an invalid format"),
    ErrorRow(422, "form_param_max_length_exceeded", "Parameter is too long"),
    ErrorRow(422, "form_param_missing", "Parameter is missing"),
    ErrorRow(422, "form_param_unknown", "Unknown parameter"),
    ErrorRow(422, "form_param_value_invalid", "Parameter has an invalid value"),
    ErrorRow(422, "form_resource_not_found", "The referenced resource was not found"),
    ErrorRow(429, "too_many_requests", "Too many requests"),
    ErrorRow(500, "internal_clerk_error", "Internal error"),
    ErrorRow(503, "service_unavailable", "Service unavailable"),
    ErrorRow(504, "gateway_timeout", "Gateway timeout"),
)
"""The codes that the sandbox can return. Tests show a request that causes each code."""

MISSING: Mapping[str, tuple[str, ...]] = {
    "billing is not emulated": (
        "organization_member_limit_managed_by_billing",
        "insufficient_seats",
        "unsupported_subscription_plan_features",
    ),
    "directories are not emulated": ("organization_membership_managed_by_scim",),
    "exclusive memberships are not emulated": ("exclusive_organization_membership",),
    "invitations are not emulated": (
        "duplicate_record",
        "not_an_admin_in_organization",
        "organization_invitation_already_accepted",
        "organization_invitation_not_pending",
        "organization_invitation_not_unique",
        "organization_invitation_revoked_code",
    ),
    "no path of the Backend API is known to answer it": ("organization_not_found_or_unauthorized",),
    "no situation is documented": ("conflict",),
    "parameters of older API versions answer form_param_unknown": ("form_param_deprecated",),
    "personal accounts are not emulated": ("personal_accounts_not_allowed",),
    "raised for signed-in users, not for the secret key": (
        "authorization_invalid",
        "authorization_missing_scopes",
        "missing_organization_permission",
        "not_a_member_in_organization",
    ),
    "role sets are not emulated": ("role_migration_in_progress",),
    "slugs that are taken answer form_identifier_exists": ("form_already_exists",),
}
"""Codes that Clerk documents and the sandbox never returns, grouped by the reason."""

CODES: Mapping[str, ErrorRow] = {row.code: row for row in SUPPORTED}


class ApiError(Exception):
    """An error response in Clerk's format. The code determines the status and the default message."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        param: str | None = None,
        meta: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        row = CODES[code]
        self.status = row.status
        self.code = code
        self.message = row.message
        self.detail = detail or row.message
        self.param = param
        self.meta: dict[str, Any] = {**(meta or {}), **({"param_name": param} if param else {})}
        self.headers: Mapping[str, str] = headers or {}
        super().__init__(self.detail)


def code_for_status(status: int) -> str | None:
    """Return the first code in the table with this status, or None if no code has the status."""
    return next((row.code for row in SUPPORTED if row.status == status), None)
