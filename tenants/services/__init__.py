"""Provide one function per operation on tenants, for views, admin actions, commands and jobs.

Each function fetches from Clerk first, with no transaction open, and then writes through
`tenants.mirror.writer` and `tenants.lifecycle`.
"""

import logging
import time
import warnings
from collections.abc import Mapping
from typing import Any

from django.db import DatabaseError, connection

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkError, ClerkMisconfigured
from clerk_integration.organizations import (
    get_clerk_membership,
    iter_clerk_memberships,
)
from clerk_integration.wire.deadlines import clerk_deadline, default_deadline
from clerk_integration.wire.ids import validate_org_id
from tenants.creation.create import Creation, adopt_organization, create_in_clerk
from tenants.creation.instances import require_own_instance
from tenants.creation.local import create_local_tenant
from tenants.exceptions import (
    AlreadyLinked,
    NotAMember,
    NotLinked,
    UnknownTenants,
)
from tenants.lifecycle import link
from tenants.lifecycle.link import unlink
from tenants.lifecycle.status import deactivate, reactivate, suspend
from tenants.mirror import writer
from tenants.models import Tenant
from tenants.services.changes import change, delete, rename, restore
from tenants.services.listing import JsonFields, SyncState, await_lease, list_user, read_user_tenants
from tenants.services.organizations import fetch_organization, sync_clerk_org_to_db, sync_organization

__all__ = [
    "JUST_IN_TIME_SECONDS",
    "SyncState",
    "TenantService",
    "await_lease",
    "change",
    "deactivate",
    "delete",
    "list_user",
    "reactivate",
    "rename",
    "restore",
    "suspend",
    "sync_clerk_org_to_db",
    "sync_organization",
    "unlink",
]

logger = logging.getLogger("tenants.services")

JUST_IN_TIME_SECONDS = 10.0
"""A user who asks for an unknown organization is listed again in Clerk, if the last listing is older."""


class TenantService:
    """Operations on tenants, in Clerk and in the mirror."""

    @staticmethod
    def create_tenant(tenant_data: Mapping[str, Any], clerk_org_id: str | None = None) -> Tenant:
        """Insert a tenant without asking Clerk (deprecated: use `create_tenant_from_clerk`).

        Writes `tenants`. Raise InvalidClerkId, AlreadyLinked or OrganizationDeleted for an unusable
        `clerk_org_id`.
        """
        warnings.warn(
            "TenantService.create_tenant() does not create the organization in Clerk;"
            " use create_tenant_from_clerk().",
            DeprecationWarning,
            stacklevel=2,
        )
        if clerk_org_id is not None:
            validate_org_id(clerk_org_id)
        return create_local_tenant(
            name=tenant_data["name"], slug=tenant_data.get("slug"), clerk_org_id=clerk_org_id
        )

    @staticmethod
    def create_tenant_from_clerk(
        *,
        clerk_user_id: str,
        tenant_data: Mapping[str, Any],
        clerk_org_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Tenant:
        """Create an organization in Clerk and mirror it; with `clerk_org_id`, adopt that organization.

        `tenant_data` holds `name` (1 to 256 characters) and optionally `slug` and `make_primary`: unless it
        is false, the tenant becomes the user's primary. Writes `creation_attempts`, `tenants` and
        `memberships`; calls Clerk twice: to create and to read the creator's role. Raise ClerkError, and
        for an adoption NotAMember, UnknownOrganization or OrganizationDeleted; then no tenant is written.
        """
        with default_deadline():
            require_own_instance()
            make_primary = tenant_data.get("make_primary", True)
            if clerk_org_id is not None:
                return _adopt(clerk_user_id, clerk_org_id, make_primary=make_primary)
            return create_in_clerk(
                Creation(
                    clerk_user_id,
                    tenant_data["name"],
                    tenant_data.get("slug"),
                    idempotency_key,
                    make_primary=make_primary,
                )
            )

    @staticmethod
    def get_or_sync_from_clerk(clerk_org_id: str) -> Tenant | None:
        """Return the organization's tenant; if there is none, fetch and mirror the organization.

        Return None if Clerk does not know the organization. Raise ClerkError if Clerk cannot be asked.
        """
        tenant = Tenant.objects.filter(clerk_org_id=clerk_org_id).first()
        return tenant or sync_clerk_org_to_db(clerk_org_id)

    @staticmethod
    def sync_user_tenants_from_clerk(clerk_user_id: str, *, max_age: float | None = None) -> SyncState:
        """Update the user's memberships and their tenants from Clerk, and return the state of the data.

        Does nothing while they are fresh (listed in the last `max_age` seconds, by default
        `CLERK_SYNC_MAX_AGE_SECONDS`); waits, up to the deadline, for another process that is listing them.
        Otherwise lists all memberships of the user, creates and updates tenants and memberships, and ends the
        memberships that Clerk no longer lists. Does not change members of legacy tenants and rows that were
        written during the listing. Returns `stale` and changes no tenant or membership if Clerk does not know
        the user or fails, a lock is not free in time, the database is read-only, or the last listing failed
        seconds ago. Raise DatabaseError only if the connection cannot be used.
        """
        deadline = time.monotonic() + clerk_settings.timeout_seconds
        try:
            state = await_lease(clerk_user_id, deadline, max_age=max_age)
            if state.lease is not None:
                with clerk_deadline(deadline - time.monotonic()):
                    list_user(clerk_user_id, state.lease)
                return SyncState.SYNCED
        except (ClerkError, DatabaseError) as error:
            if isinstance(error, DatabaseError) and not connection.is_usable():
                raise  # There are no local rows to return.
            level = logging.CRITICAL if isinstance(error, ClerkMisconfigured) else logging.WARNING
            reason = " ".join(str(error).split())
            logger.log(level, "tenants of %s served from the mirror: %s", clerk_user_id, reason)
            return SyncState.STALE
        return SyncState.FRESH if state.is_fresh else SyncState.STALE

    @staticmethod
    def list_user_tenants(
        clerk_user_id: str, fields: JsonFields, *, sync: bool = True, active_only: bool = True
    ) -> tuple[SyncState, list[dict[str, Any]]]:
        """Return the state of the data and the user's tenants, the primary first, then by time of joining.

        Each tenant is a mapping of `fields`. Takes one statement while the memberships are fresh. Otherwise
        does what `sync_user_tenants_from_clerk` does (not if `sync` is false), and reads the tenants again.
        """
        is_fresh, tenants = read_user_tenants(clerk_user_id, fields, active_only)
        if not sync:
            return SyncState.SKIPPED, tenants
        if is_fresh:
            return SyncState.FRESH, tenants
        state = TenantService.sync_user_tenants_from_clerk(clerk_user_id)
        return state, read_user_tenants(clerk_user_id, fields, active_only)[1]

    @staticmethod
    def refresh_from_clerk(tenant: Tenant) -> Tenant:
        """Fetch the tenant's organization and all its memberships now, as `sync_organization` does.

        Raise NotLinked for a legacy tenant, UnknownTenants if the tenant was deleted in the meantime, and
        what `sync_organization` raises.
        """
        if tenant.clerk_org_id is None:
            raise NotLinked("This tenant is not linked to an organization in Clerk.")
        with default_deadline():
            sync_organization(tenant.clerk_org_id)
        try:
            tenant.refresh_from_db()
        except Tenant.DoesNotExist:
            raise UnknownTenants([tenant.pk]) from None
        return tenant

    @staticmethod
    def link_to_clerk_org(tenant: Tenant, clerk_org_id: str, *, acting_user: Any) -> Tenant:
        """Link a legacy tenant to an organization, and absorb the organization's mirror-only tenant.

        Fetches the organization and its memberships, then writes `tenants` and `memberships` under
        lock. The history names `acting_user` (None: the system). Raise
        UnknownOrganization, AlreadyLinked, OrganizationDeleted, AbsorbRefused or ClerkError; then
        nothing is written.
        """
        if tenant.clerk_org_id not in (None, clerk_org_id):
            raise AlreadyLinked(f"Tenant {tenant.pk} is linked to {tenant.clerk_org_id}; unlink it first.")
        with default_deadline():
            require_own_instance()
            listed_at = writer.clock()
            organization = fetch_organization(clerk_org_id)
            memberships = iter_clerk_memberships(clerk_org_id).to_list()
        linked = link.link(
            tenant,
            organization,
            memberships,
            listed_at=listed_at,
            complete=memberships.complete,
            skipped_ids=memberships.skipped_ids,
            acting_user=acting_user,
        )
        logger.info("tenant %s linked to %s by %s", tenant.pk, clerk_org_id, acting_user or "the system")
        return linked


def _adopt(clerk_user_id: str, clerk_org_id: str, *, make_primary: bool) -> Tenant:
    organization = fetch_organization(clerk_org_id)
    membership = get_clerk_membership(clerk_org_id, clerk_user_id)
    if membership is None:
        raise NotAMember(f"{clerk_user_id} is not a member of {clerk_org_id} in Clerk.")
    return adopt_organization(clerk_user_id, organization, membership, make_primary=make_primary)
