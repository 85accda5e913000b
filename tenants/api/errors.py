"""What API clients get to see of the things that go wrong.

Every error leaves as `{"type", "errors": [{"code", "detail", "attr"}]}` (drf-standardized-errors);
here are the statuses and codes of our own, and what Clerk's and the tenants' failures become. DRF
imports this module while it defines its views, so nothing here may import `rest_framework.views`.

| raised | reading | creating |
| --- | --- | --- |
| ClerkUnavailable, ClerkProtocolError | 503 clerk_unavailable | 500 clerk_unavailable |
| ClerkRateLimited | 503 clerk_rate_limited | 500 clerk_rate_limited |
| ClerkMisconfigured | 500 clerk_misconfigured | 500 clerk_misconfigured |
| ClerkNotFound | 404 | 400 |
| ClerkRejected, InvalidClerkId | 400 | 400, on the field |

`Retry-After` is sent whenever a time is known.
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
from tenants.exceptions import IdempotencyKeyInUse, IdempotencyKeyReused, TenantError, TenantInactive

SLUG_CODES = frozenset({"form_identifier_exists", "form_already_exists", "organization_slugs_disabled"})
"""Clerk's codes for a slug that is taken (either of two) or that the instance does not use."""

FIELDS = frozenset({"name", "slug"})
NON_FIELD = "non_field_errors"


class Retryable(APIException):
    """An error that may pass: `retry_after` seconds go into the Retry-After header, rounded up."""

    def __init__(
        self, detail: str | None = None, code: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(detail, code)
        # The name under which drf-standardized-errors looks for it.
        self.wait = None if retry_after is None else max(1, math.ceil(retry_after))


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
        return ServerError(_misconfigured(), "clerk_misconfigured")
    return ServiceUnavailable(_public(error), _code(error), retry_after=_retry_after(error))


def create_failure(error: ClerkError) -> APIException:
    """Return what a create answers for Clerk's `error`: 400 for the caller's data, else 500.

    `detail` of a 500 starts with `Failed to create organization`.
    """
    if isinstance(error, (ClerkRejected, ClerkNotFound, InvalidClerkId)):
        return _rejection(error)
    reason = _misconfigured() if isinstance(error, ClerkMisconfigured) else _public(error)
    return ServerError(
        f"Failed to create organization: {reason}", _code(error), retry_after=_retry_after(error)
    )
