"""Fetch the membership that a session token names and the mirror lacks.

The token proves that the user has an active organization; it does not say what Clerk knows of it. The user's
memberships are therefore listed in Clerk and mirrored. One process at a time lists a user, by the same lease
as for the list of the user's tenants; the others wait for it and then read its rows.
"""

import logging
import time
from collections.abc import Callable

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkError, ClerkNotFound
from clerk_integration.tokens.clerk_user import ClerkUser
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.mirror import leases
from tenants.models import Membership
from tenants.scoping.exceptions import TenantUnavailable
from tenants.services import await_lease, list_user

logger = logging.getLogger(__name__)

UNKNOWN_SECONDS = 10.0
"""Clerk is not asked again for so long after it did not know a membership."""

MAX_UNKNOWN = 10_000

_unknown: dict[tuple[str, str | None], float] = {}


def fetch_membership(user: ClerkUser, stored: Callable[[], Membership | None]) -> Membership | None:
    """Return `stored()` after the user's memberships were listed in Clerk since the token was issued.

    Writes what the list of the user's tenants writes. Returns None, without asking Clerk, for UNKNOWN_SECONDS
    after Clerk did not know the membership. Raise TenantUnavailable if Clerk cannot be asked and no
    membership is stored.
    """
    key = user.clerk_user_id, user.organization_id
    if time.monotonic() < _unknown.get(key, 0.0):
        return None
    try:
        membership = _listed(user, stored)
    except ClerkNotFound:  # Clerk does not know the user (any more).
        membership = None
    except ClerkError as error:
        logger.warning("%s in %s cannot be fetched from Clerk: %s", *key, " ".join(str(error).split()))
        membership = stored()
        if membership is None:
            raise TenantUnavailable from error
    if membership is None or not membership.is_active:
        _remember_unknown(key)
    return membership


def forget_unknown() -> None:
    """Forget which memberships Clerk did not know."""
    _unknown.clear()


def _listed(user: ClerkUser, stored: Callable[[], Membership | None]) -> Membership | None:
    deadline = time.monotonic() + clerk_settings.timeout_seconds
    state = await_lease(user.clerk_user_id, deadline, max_age=_seconds_since_issued(user))
    membership = stored()
    if state.lease is None:
        if membership is None and not state.is_fresh:
            raise TenantUnavailable  # Another process is still listing, or its listing has failed.
        return membership
    if membership is not None and membership.is_active:  # Another process has listed it meanwhile.
        leases.release_lease(user.clerk_user_id, state.lease, back_off=False)
        return membership
    with clerk_deadline(deadline - time.monotonic()):
        list_user(user.clerk_user_id, state.lease)
    return stored()


def _seconds_since_issued(user: ClerkUser) -> float:
    """Return the age of the token, at least: its time of issue is in whole seconds, rounded down."""
    return max(0.0, time.time() - user.issued_at - 1)


def _remember_unknown(key: tuple[str, str | None]) -> None:
    if len(_unknown) >= MAX_UNKNOWN:
        _unknown.clear()
    _unknown[key] = time.monotonic() + UNKNOWN_SECONDS
