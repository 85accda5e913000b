"""Find the membership that a request works with.

The tenant is named by the header `X-Tenant-Id`, or else by the active organization of the session token.

| named by | stored membership | tenant | what is done |
| --- | --- | --- | --- |
| token | active | active | it is used: the token proves that it was there a minute ago |
| token | none, or ended | active, or none | Clerk is asked, see `just_in_time` |
| header | any | active, or none | it is refreshed as for the list of the user's tenants, then used |
| either | any | not active | none |
"""

import copy
import time
from datetime import timedelta
from typing import Any

from django.db.models import Exists

from clerk_integration.conf import clerk_settings
from clerk_integration.tokens.clerk_user import ClerkUser
from tenants.models import Membership, Tenant, UserSync
from tenants.querysets import MAX_ID_DIGITS
from tenants.scoping.just_in_time import fetch_membership
from tenants.services import TenantService
from tenants.sql import ClockTimestamp

CACHE_SECONDS = 10.0
"""A read may use a membership that this process has read from the database so long ago."""

MAX_CACHED = 10_000

_cache: dict[tuple[str, str], tuple[float, Membership]] = {}


def find_membership(user: ClerkUser, *, header: str | None, is_write: bool) -> Membership | None:
    """Return the user's active membership of the active tenant that the request names; None without one.

    Sends at most one statement, and none if a read finds the membership in the cache, except when Clerk must
    be asked. Raise TenantUnavailable if Clerk must be asked and cannot be asked.
    """
    if header is not None:
        membership = _by_tenant_id(user, header)
    elif user.organization_id is not None:
        membership = _by_organization(user, user.organization_id, is_write=is_write)
    else:
        membership = None
    return membership if is_usable(membership) else None


def is_usable(membership: Membership | None) -> bool:
    """Return whether the membership and its tenant are active."""
    return membership is not None and membership.is_active and membership.tenant.is_active


def forget_memberships() -> None:
    """Empty the cache."""
    _cache.clear()


def _by_organization(user: ClerkUser, organization_id: str, *, is_write: bool) -> Membership | None:
    key = user.clerk_user_id, organization_id
    expires_at, cached = _cache.get(key, (0.0, None))
    if cached is not None and not is_write and time.monotonic() < expires_at:
        return _copy(cached)
    membership = _stored(user, tenant__clerk_org_id=organization_id)
    if membership is None or (membership.tenant.is_active and not membership.is_active):
        membership = fetch_membership(user, lambda: _stored(user, tenant__clerk_org_id=organization_id))
    if membership is not None and is_usable(membership):
        _remember(key, membership)
    return membership


def _by_tenant_id(user: ClerkUser, header: str) -> Membership | None:
    if not (header.isascii() and header.isdecimal() and len(header) <= MAX_ID_DIGITS):
        return None
    membership = _stored(user, tenant_id=int(header))
    if membership is None or not _is_current(user, membership):
        TenantService.sync_user_tenants_from_clerk(user.clerk_user_id)
        membership = _stored(user, tenant_id=int(header))
    return membership


def _is_current(user: ClerkUser, membership: Any) -> bool:
    """Return whether the stored membership may be used without asking Clerk for the user's memberships."""
    tenant: Tenant = membership.tenant
    return tenant.is_legacy or bool(membership.is_fresh) or tenant.clerk_org_id == user.organization_id


def _stored(user: ClerkUser, **tenant: Any) -> Membership | None:
    """Return the stored membership with its tenant; `is_fresh` says whether Clerk was asked recently."""
    now = ClockTimestamp()
    oldest = now - timedelta(seconds=clerk_settings.sync_max_age_seconds)
    fresh = UserSync.objects.filter(
        clerk_user_id=user.clerk_user_id, synced_at__gt=oldest, synced_at__lte=now
    )
    memberships = Membership.objects.select_related("tenant").annotate(is_fresh=Exists(fresh))
    return memberships.filter(clerk_user_id=user.clerk_user_id, **tenant).first()


def _remember(key: tuple[str, str], membership: Membership) -> None:
    if len(_cache) >= MAX_CACHED:
        _cache.clear()
    seconds = min(CACHE_SECONDS, clerk_settings.sync_max_age_seconds)
    _cache[key] = time.monotonic() + seconds, _copy(membership)


def _copy(membership: Membership) -> Membership:
    """Return a copy, because a view may change the object that it is given."""
    copied = copy.copy(membership)
    copied.tenant = copy.copy(membership.tenant)
    return copied
