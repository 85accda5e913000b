"""Turn failures of Clerk, of tenants and of the database into API errors.

drf-standardized-errors renders them as `{"type", "errors": [{"code", "detail", "attr"}]}`.

A change (rename, delete) is answered as a read; its `detail` says if Clerk may have made the change.

| raised | reading | creating |
| --- | --- | --- |
| ClerkUnavailable, ClerkProtocolError | 503 clerk_unavailable | 500 clerk_unavailable |
| ClerkRateLimited | 503 clerk_rate_limited | 500 clerk_rate_limited |
| ClerkMisconfigured | 500 clerk_misconfigured | 500 clerk_misconfigured |
| ClerkNotFound | 404 not_found | 400 with Clerk's message |
| ClerkRejected, InvalidClerkId | 400 on the field | 400 on the field |
| database: cannot be reached | 503 database_unavailable | as reading |
| database: accepts no writes | 503 database_read_only | as reading |
| database: a lock or a statement timed out | 503 database_busy | as reading |

When the outcome of an earlier create with the same key is unknown, creating answers 500 in every case.

Clerk's message about the caller's own data is passed on; its message about this server (key, address) is not.
DRF imports this module while it defines its views, so this module must not import `rest_framework.views`.
"""

import math

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound, PermissionDenied, ValidationError

from clerk_integration.exceptions import (
    ClerkError,
    ClerkMisconfigured,
    ClerkNotFound,
    ClerkRateLimited,
    ClerkRejected,
    InvalidClerkId,
    SigningKeysUnavailable,
)
from tenants.exceptions import (
    AbsorbRefused,
    AlreadyLinked,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    NotAMember,
    NotLinked,
    OrganizationDeleted,
    OrganizationExists,
    TenantError,
    TenantInactive,
    TenantInUse,
    UnknownOrganization,
    UnknownTenants,
)

MAX_BODY_BYTES = 1024 * 1024
DATABASE_RETRY_SECONDS = 5

FIELDS = frozenset({"name", "slug"})
SLUG_CODES = frozenset({"form_identifier_exists", "form_already_exists", "organization_slugs_disabled"})
"""Clerk's codes for a slug that is taken (the first two) or that the instance does not allow."""

CLERK_FAILURES: tuple[tuple[type[ClerkError], str, str], ...] = (
    (
        ClerkMisconfigured,
        "clerk_misconfigured",
        "Clerk does not accept this server's key or settings; its operator must correct them.",
    ),
    (
        ClerkRateLimited,
        "clerk_rate_limited",
        "Clerk received too many requests from this server. Try again later.",
    ),
    (
        ClerkError,
        "clerk_unavailable",
        "Clerk could not be reached, or gave no usable answer in time. Try again later.",
    ),
)
"""Code and message of each failure that is not about the caller's data; the first matching class is used."""

READ_ONLY_STATES = frozenset({"25006"})
BUSY_STATES = frozenset({"40001", "40P01", "55P03", "57014"})
"""PostgreSQL's codes for a serialization failure, a deadlock, a lock timeout and a canceled statement."""

CONFLICTS: dict[type[TenantError], str] = {
    TenantInactive: "tenant_inactive",
    OrganizationDeleted: "organization_deleted",
    AlreadyLinked: "already_linked",
    AbsorbRefused: "absorb_refused",
    NotLinked: "not_linked",
    OrganizationExists: "organization_exists",
    TenantInUse: "tenant_in_use",
    IdempotencyKeyInUse: "idempotency_key_in_use",
    IdempotencyKeyReused: "idempotency_key_reused",
}
"""Codes of the 409 answers."""


class Retryable(APIException):
    """An error that may not occur again later; sends `retry_after` seconds, rounded up, as Retry-After."""

    def __init__(
        self, detail: str | None = None, code: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(detail, code)
        # drf-standardized-errors sends this attribute as Retry-After.
        self.wait = None if retry_after is None else max(1, math.ceil(retry_after))


class BodyTooLarge(APIException):
    """413: the body is larger than MAX_BODY_BYTES."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing was done."
    default_code = "body_too_large"


class UnacceptableRequest(APIException):
    """400: Django refuses the whole request, for example one with thousands of parameters."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "The server does not accept this request. Nothing was done."
    default_code = "bad_request"


class ClerkUserRequired(PermissionDenied):
    """403: the caller is signed in, but not as a Clerk user."""

    default_detail = "This needs a Clerk user: send a Clerk session token instead of a Django session."
    default_code = "clerk_user_required"


class Conflict(Retryable):
    """409: the state of the tenant or of the idempotency key does not allow the request."""

    status_code = status.HTTP_409_CONFLICT


class ServiceUnavailable(Retryable):
    """503: the request needs Clerk or the database, and Clerk or the database cannot be used."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE


class ServerError(Retryable):
    """500: the server failed; the request was valid."""


def read_failure(error: ClerkError) -> APIException:
    """Return the API error for a read that needs Clerk and fails with `error`."""
    if isinstance(error, ClerkNotFound):
        return NotFound()
    if isinstance(error, ClerkRejected | InvalidClerkId):
        return _rejection(error)
    failure = ServerError if isinstance(error, ClerkMisconfigured) else ServiceUnavailable
    code, message = _code_and_message(error)
    return failure(f"{message} Nothing was done.", code, retry_after=_retry_after(error))


def create_failure(error: ClerkError) -> APIException:
    """Return the API error for a create that fails with `error`: 400 for the caller's data, else 500.

    If Clerk refuses the search for an earlier create, the error is not about the caller's data. The `detail`
    of a 500 starts with `Failed to create organization: ` and says whether the organization may exist.
    """
    if isinstance(error, ClerkRejected | ClerkNotFound | InvalidClerkId) and not error.outcome_unknown:
        return _rejection(error)
    outcome = "Nothing was created."
    if error.outcome_unknown:
        outcome = "Clerk may have created it all the same: list your tenants before you try again."
    code, message = _code_and_message(error)
    detail = f"Failed to create organization: {message} {outcome}"
    return ServerError(detail, code, retry_after=_retry_after(error))


def change_failure(error: ClerkError) -> APIException:
    """Return the API error for a change that failed with `error`; Clerk may have made the change."""
    if not error.outcome_unknown:
        return read_failure(error)
    code, message = _code_and_message(error)
    detail = f"{message} Clerk may have made the change all the same; the next sync shows it."
    return ServiceUnavailable(detail, code, retry_after=_retry_after(error))


def tenant_failure(error: TenantError) -> APIException:
    """Return the API error for `error`, with the error's own message."""
    if isinstance(error, NotAMember | UnknownTenants):
        return NotFound()
    if isinstance(error, UnknownOrganization) and type(error) not in CONFLICTS:
        return ValidationError({"non_field_errors": [str(error)]}, code="unknown_organization")
    retry_after = error.retry_after if isinstance(error, IdempotencyKeyInUse) else None
    return Conflict(str(error), CONFLICTS.get(type(error), "conflict"), retry_after=retry_after)


def database_failure(error: DatabaseError) -> ServiceUnavailable | None:
    """Return the API error for an outage of the database; None for any other error, which is a bug."""
    state = getattr(error.__cause__, "sqlstate", None)
    if state in READ_ONLY_STATES:
        code, reason = "database_read_only", "The database accepts no writes at present"
    elif state in BUSY_STATES:
        code, reason = "database_busy", "Another request or job holds the rows for too long"
    elif isinstance(error, OperationalError | InterfaceError):
        code, reason = "database_unavailable", "The database cannot be reached"
    else:
        return None
    # Not "Nothing was done.": the database may fail after a write to Clerk.
    return ServiceUnavailable(f"{reason}. Try again later.", code, retry_after=DATABASE_RETRY_SECONDS)


def _rejection(error: ClerkError) -> ValidationError:
    code, field = "invalid", "non_field_errors"
    if isinstance(error, ClerkRejected):
        code = error.code
        if error.param in FIELDS:
            field = error.param
        elif error.code in SLUG_CODES:
            field = "slug"
    return ValidationError({field: [error.message]}, code=code)


def _code_and_message(error: ClerkError) -> tuple[str, str]:
    return next((code, message) for kind, code, message in CLERK_FAILURES if isinstance(error, kind))


def _retry_after(error: ClerkError) -> float | None:
    return error.retry_after if isinstance(error, ClerkRateLimited | SigningKeysUnavailable) else None
