"""Clerk's error codes as data, and the exception that carries one of them to the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Support = Literal["supported", "missing"]


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One code of Clerk's error catalogue and what provokes it here (or why nothing does)."""

    status: int
    code: str
    support: Support
    message: str
    how: str
    param: str | None = None
    """The `meta.param_name` that the situation in `how` leads to; None when the code carries none."""


def _supported(status: int, code: str, message: str, how: str, param: str | None = None) -> ErrorRow:
    return ErrorRow(status, code, "supported", message, how, param)


def _missing(status: int, code: str, why: str) -> ErrorRow:
    return ErrorRow(status, code, "missing", code.replace("_", " "), why)


ERRORS: tuple[ErrorRow, ...] = (
    _supported(400, "api_version_invalid", "Invalid API version", "a Clerk-API-Version that is no date"),
    _supported(
        400,
        "already_a_member_in_organization",
        "Already a member of the organization",
        "creating a membership twice",
    ),
    _supported(400, "bad_request", "Bad request", "bytes that are no HTTP request"),
    _supported(
        400, "organization_creator_not_found", "Organization creator not found", "created_by names no user"
    ),
    _supported(
        400,
        "organization_minimum_permissions_needed",
        "The organization needs a member with the minimum permissions",
        "demoting or removing the last admin",
    ),
    _supported(400, "request_body_invalid", "Request body invalid", "a body that is no JSON object"),
    _supported(
        401,
        "authorization_header_format_invalid",
        "Invalid Authorization header format",
        "an Authorization header that is not `Bearer <key>`",
    ),
    _supported(401, "authentication_invalid", "Invalid authentication", "no Authorization header"),
    _supported(401, "clerk_key_invalid", "The provided Clerk Secret Key is invalid", "a foreign secret key"),
    _supported(
        403,
        "org_creation_limit_exceeded",
        "Organization creation limit exceeded",
        "the creator has reached their limit",
    ),
    _supported(
        403,
        "organization_membership_quota_exceeded",
        "Organization membership quota exceeded",
        "max_allowed_memberships is reached",
    ),
    _supported(
        403,
        "organization_not_enabled_in_instance",
        "Organizations are not enabled for this instance",
        "any organization endpoint while `enabled` is false in the organization settings",
    ),
    _supported(
        403,
        "organization_quota_exceeded",
        "Organization quota exceeded",
        "the instance's cap, set through /sandbox/settings",
    ),
    _supported(
        403,
        "organization_slugs_disabled",
        "Organization slugs are disabled",
        "a slug is supplied while slugs are disabled",
    ),
    _supported(404, "resource_not_found", "Resource not found", "an id, role or route that does not exist"),
    _supported(409, "resource_locked", "Resource locked", "a fault with status 409"),
    _supported(413, "request_body_too_large", "Request body too large", "a body over 1 MB"),
    _supported(422, "form_identifier_exists", "That slug is taken", "a slug that is in use", "slug"),
    _supported(
        422,
        "form_param_exceeds_allowed_size",
        "Parameter exceeds the allowed size",
        "metadata over 8 KB",
        "public_metadata",
    ),
    _supported(
        422,
        "form_param_format_invalid",
        "Parameter has an invalid format",
        "a slug with a capital letter",
        "slug",
    ),
    _supported(
        422,
        "form_param_max_length_exceeded",
        "Parameter is too long",
        "a name over 256 characters",
        "name",
    ),
    _supported(422, "form_param_missing", "Parameter is missing", "an organization without a name", "name"),
    _supported(422, "form_param_unknown", "Unknown parameter", "a parameter that Clerk does not list", "nam"),
    _supported(
        422, "form_param_value_invalid", "Parameter has an invalid value", "a limit over 500", "limit"
    ),
    _supported(
        422,
        "form_resource_not_found",
        "The referenced resource was not found",
        "an unknown role_set_key",
        "role_set_key",
    ),
    _supported(429, "too_many_requests", "Too many requests", "the rate limit, or a fault with rateLimit"),
    _supported(500, "internal_clerk_error", "Internal error", "a fault with status 500"),
    _supported(503, "service_unavailable", "Service unavailable", "a fault with status 503"),
    _supported(504, "gateway_timeout", "Gateway timeout", "a fault with status 504"),
    _missing(400, "duplicate_record", "invitations are not emulated"),
    _missing(400, "organization_invitation_already_accepted", "invitations are not emulated"),
    _missing(400, "organization_invitation_not_unique", "invitations are not emulated"),
    _missing(400, "organization_invitation_revoked_code", "invitations are not emulated"),
    _missing(400, "organization_member_limit_managed_by_billing", "billing is not emulated"),
    _missing(402, "insufficient_seats", "billing is not emulated"),
    _missing(402, "unsupported_subscription_plan_features", "billing is not emulated"),
    _missing(403, "authorization_invalid", "the secret key may do everything here"),
    _missing(403, "authorization_missing_scopes", "the secret key may do everything here"),
    _missing(403, "missing_organization_permission", "raised for signed-in users, not for the secret key"),
    _missing(403, "not_a_member_in_organization", "raised for signed-in users, not for the secret key"),
    _missing(403, "not_an_admin_in_organization", "invitations are not emulated"),
    _missing(404, "organization_invitation_not_pending", "invitations are not emulated"),
    _missing(404, "organization_not_found_or_unauthorized", "no Backend API path is known to answer it"),
    _missing(409, "conflict", "no situation is documented"),
    _missing(409, "organization_membership_managed_by_scim", "directories are not emulated"),
    _missing(409, "role_migration_in_progress", "role sets are not emulated"),
    _missing(422, "exclusive_organization_membership", "exclusive memberships are not emulated"),
    _missing(422, "form_already_exists", "slugs that are taken answer form_identifier_exists"),
    _missing(422, "form_param_deprecated", "parameters of older API versions answer form_param_unknown"),
    _missing(422, "personal_accounts_not_allowed", "personal accounts are not emulated"),
)

_BY_CODE: Mapping[str, ErrorRow] = {row.code: row for row in ERRORS}


class ApiError(Exception):
    """An answer in Clerk's error shape; the status and the message follow from the code."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        param: str | None = None,
        meta: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        row = _BY_CODE[code]
        super().__init__(detail or row.message)
        self.status = row.status
        self.code = code
        self.message = row.message
        self.detail = detail or row.message
        self.meta: dict[str, Any] = {**(meta or {}), **({"param_name": param} if param else {})}
        self.headers: Mapping[str, str] = headers or {}


def code_for_status(status: int) -> str | None:
    """The code that a fault with this status carries; None when the table knows none."""
    faults = {409: "resource_locked", 429: "too_many_requests"}
    if status in faults:
        return faults[status]
    return next((row.code for row in ERRORS if row.status == status and row.support == "supported"), None)
