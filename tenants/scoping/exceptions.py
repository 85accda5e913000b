"""Exceptions of code that works for one tenant."""

from rest_framework import status
from rest_framework.exceptions import APIException, NotFound


class NoCurrentTenant(Exception):
    """The code needs a current tenant, and there is none. Nothing was read or written."""


class CrossTenantWrite(Exception):
    """A row, or a row that it refers to, belongs to another tenant. Nothing was saved or deleted."""


class TenantNotFound(NotFound):
    """404: the request names no tenant of which the caller is an active member.

    The answer is the same whether a tenant with this id exists or not.
    """

    default_detail = (
        "The request names no tenant of which you are an active member. Send the tenant's id in the header "
        "X-Tenant-Id, or a session token with an active organization."
    )


class TenantUnavailable(APIException):
    """503: the organization of the token is not mirrored yet, and Clerk cannot be asked for it."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The organization of the session token could not be fetched from Clerk. Try again later."
    default_code = "tenant_unavailable"
    wait = 5
    """Seconds, which DRF sends as Retry-After."""
