"""What API clients get to see of the things that go wrong.

Every error leaves as `{"type", "errors": [{"code", "detail", "attr"}]}` (drf-standardized-errors);
here are the statuses and codes of our own, and what Clerk's and the tenants' failures become. DRF
imports this module while it defines its views, so nothing here may import `rest_framework.views`.

| raised | reading | creating |
| --- | --- | --- |
| ClerkUnavailable, ClerkProtocolError | 503 clerk_unavailable | 500 clerk_unavailable |
| ClerkRateLimited | 503 clerk_rate_limited | 500 clerk_rate_limited |
| ClerkMisconfigured | 500 clerk_misconfigured | 500 clerk_misconfigured |
| ClerkNotFound | 404 not_found | 400 with Clerk's words |
| ClerkRejected, InvalidClerkId | 400 on the field | 400 on the field |

Where it is not known what came of an earlier create with the same key, creating answers 500 for all of them.

`Retry-After` is sent whenever a time is known. What Clerk says about the caller's own data is passed
on; what it says about this server (its key, its address) is not.
"""

import math

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
    OrganizationDeleted,
    TenantError,
    TenantInactive,
    UnknownOrganization,
)

SLUG_CODES = frozenset({"form_identifier_exists", "form_already_exists", "organization_slugs_disabled"})
"""Clerk's codes for a slug that is taken (either of two) or that the instance does not use."""

MAX_BODY_BYTES = 64 * 1024
"""More than any body that these endpoints understand; DRF itself reads whatever is sent."""

FIELDS = frozenset({"name", "slug"})
NON_FIELD = "non_field_errors"

CONFLICTS: dict[type[TenantError], str] = {
    TenantInactive: "tenant_inactive",
    OrganizationDeleted: "organization_deleted",
    AlreadyLinked: "already_linked",
    AbsorbRefused: "absorb_refused",
    IdempotencyKeyInUse: "idempotency_key_in_use",
    IdempotencyKeyReused: "idempotency_key_reused",
}
"""Codes of the 409s; a key reused for another request is in conflict with the first one."""


class Retryable(APIException):
    """An error that may pass: `retry_after` seconds go into the Retry-After header, rounded up."""

    def __init__(
        self, detail: str | None = None, code: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(detail, code)
        # The name under which drf-standardized-errors looks for it.
        self.wait = None if retry_after is None else max(1, math.ceil(retry_after))


class BodyTooLarge(APIException):
    """413: the body is larger than anything that makes sense here."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing was read."
    default_code = "body_too_large"


class UnacceptableRequest(APIException):
    """400: Django refuses the request as a whole, as one with thousands of parameters."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = "The server does not accept this request. Nothing was done."
    default_code = "bad_request"


class ClerkUserRequired(PermissionDenied):
    """403: signed in, but not as a Clerk user."""

    default_detail = "This needs a Clerk user: send a Clerk session token instead of a Django session."
    default_code = "clerk_user_required"


class Conflict(Retryable):
    """409: the request is fine, but not in the state that the tenant or the request key is in."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "The request conflicts with the current state. Nothing was changed."
    default_code = "conflict"


class ServiceUnavailable(Retryable):
    """503: Clerk is needed for the answer and cannot be asked."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Clerk cannot be reached. Nothing was done. Try again later."
    default_code = "clerk_unavailable"


class ServerError(Retryable):
    """500: this server could not do it, and the client is not to blame."""

    status_code = status.HTTP_500_INTERNAL_SERVER_ERROR


def read_failure(error: ClerkError) -> APIException:
    """Return what a request that only reads answers when Clerk fails and nothing local can serve."""
    if isinstance(error, ClerkNotFound):
        return NotFound()
    if isinstance(error, (ClerkRejected, InvalidClerkId)):
        return _rejection(error)
    if isinstance(error, ClerkMisconfigured):
        return ServerError(_reason(error), _code(error))
    return ServiceUnavailable(f"{_reason(error)} Nothing was done.", _code(error), retry_after=_wait(error))


def create_failure(error: ClerkError) -> APIException:
    """Return what a create answers for Clerk's `error`: 400 for the caller's data, else 500.

    A search for an earlier create that Clerk refuses says nothing about the caller's data. The
    `detail` of a 500 starts with `Failed to create organization: ` and says whether it may exist.
    """
    if isinstance(error, (ClerkRejected, ClerkNotFound, InvalidClerkId)) and not error.outcome_unknown:
        return _rejection(error)
    return ServerError(
        f"Failed to create organization: {_reason(error)} {_outcome(error)}",
        _code(error),
        retry_after=_wait(error),
    )


def tenant_failure(error: TenantError) -> APIException:
    """Return what the API answers for `error`; its message is fit for the caller."""
    if isinstance(error, NotAMember):
        return NotFound()
    if isinstance(error, UnknownOrganization):
        return ValidationError({NON_FIELD: [str(error)]}, code="unknown_organization")
    retry_after = error.retry_after if isinstance(error, IdempotencyKeyInUse) else None
    return Conflict(str(error), CONFLICTS.get(type(error)), retry_after=retry_after)


def _rejection(error: ClerkError) -> ValidationError:
    code = error.code if isinstance(error, ClerkRejected) else "invalid"
    return ValidationError({_field(error): [error.message]}, code=code)


def _field(error: ClerkError) -> str:
    if not isinstance(error, ClerkRejected):
        return NON_FIELD
    if error.param in FIELDS:
        return error.param
    return "slug" if error.code in SLUG_CODES else NON_FIELD


def _code(error: ClerkError) -> str:
    if isinstance(error, ClerkMisconfigured):
        return "clerk_misconfigured"
    return "clerk_rate_limited" if isinstance(error, ClerkRateLimited) else "clerk_unavailable"


def _reason(error: ClerkError) -> str:
    if isinstance(error, ClerkMisconfigured):
        return "Clerk does not accept this server's key or settings; its operator must correct them."
    if isinstance(error, ClerkRateLimited):
        return "Clerk had too many requests from this server. Try again later."
    return "Clerk could not be reached, or gave no usable answer in time. Try again later."


def _outcome(error: ClerkError) -> str:
    if error.outcome_unknown:
        return "Clerk may have created it all the same: list your tenants before you try again."
    return "Nothing was created."


def _wait(error: ClerkError) -> float | None:
    return error.retry_after if isinstance(error, (ClerkRateLimited, SigningKeysUnavailable)) else None
