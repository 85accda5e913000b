"""Decide what the failure of one tenant means for the other tenants of a batch."""

import logging

from django.db import connection

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured, ClerkRejected, ClerkUnavailable
from tenants.backfill.step import REFUSED_TO_EVERYBODY
from tenants.exceptions import TenantError
from tenants.models import Tenant

logger = logging.getLogger(__name__)

UNAVAILABLE = "Clerk is unavailable."
MISCONFIGURED = "The connection to Clerk is misconfigured."
FAILED_ALIKE = "Several tenants in a row failed for the same reason."


def reason_of(error: Exception, tenant: Tenant) -> str:
    """Return the reason of a failure for staff. Log an unexpected error, whose text may be confidential."""
    if isinstance(error, TenantError | ClerkError):
        return str(error)
    logger.error("A batch failed for tenant %s", tenant.pk, exc_info=error)
    connection.close_if_unusable_or_obsolete()
    return f"unexpected error {type(error).__name__}; the log has the details."


def stop_reason(error: Exception) -> str:
    """Return why the error would occur for every other tenant, too; an empty string if it would not."""
    if isinstance(error, ClerkUnavailable) and error.is_outage:
        return UNAVAILABLE
    return MISCONFIGURED if isinstance(error, ClerkMisconfigured) else ""


def kind_of(error: Exception) -> str:
    """Return the kind of the failure if it may affect other tenants; an empty string if it does not."""
    if isinstance(error, TenantError):
        return ""
    if isinstance(error, ClerkRejected) and error.status_code in REFUSED_TO_EVERYBODY:
        return f"ClerkRejected {error.code}"
    if isinstance(error, ClerkError) and not isinstance(error, ClerkUnavailable):
        return ""
    return type(error).__name__
