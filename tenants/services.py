"""Provide one function per operation on tenants, for views, admin actions, commands and jobs.

Each function fetches from Clerk first, with no transaction open, and then writes through
`tenants.mirror.writer` and `tenants.lifecycle`.
"""

import logging
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from django.db import DatabaseError, connection

from clerk_integration.conf import clerk_settings
from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkError, ClerkMisconfigured, ClerkNotAsked, ClerkNotFound
from clerk_integration.instance import (
    get_clerk_instance,
    known_instance_id,
    refuse_other_instance,
)
from clerk_integration.organizations import (
    delete_clerk_org,
    get_clerk_membership,
    get_clerk_org,
    get_user_clerk_orgs,
    iter_clerk_memberships,
    update_clerk_org,
)
from clerk_integration.tokens.clerk_user import ClerkUser
from clerk_integration.wire.breaker import waiting_for_clerk
from clerk_integration.wire.deadlines import clerk_deadline, default_deadline
from clerk_integration.wire.ids import validate_org_id
from tenants.creation.create import Creation, adopt_organization, create_in_clerk
from tenants.creation.instances import require_own_instance
from tenants.creation.local import create_local_tenant
from tenants.exceptions import (
    AlreadyLinked,
    NotAMember,
    NotLinked,
    OrganizationDeleted,
    OrganizationExists,
    UnknownOrganization,
    UnknownTenants,
)
from tenants.history import acting
from tenants.lifecycle import link
from tenants.lifecycle import restore as restoring
from tenants.lifecycle.delete import delete as delete_here
from tenants.lifecycle.delete import refuse_in_use
from tenants.lifecycle.link import unlink
from tenants.lifecycle.rename import rename_legacy
from tenants.lifecycle.status import deactivate, reactivate, refuse_inactive, suspend
from tenants.mirror import deletions, leases, writer
from tenants.models import Tenant, Tombstone
from tenants.querysets import json_values
from tenants.sql import json_array, query, with_names

__all__ = [
    "SyncState",
    "TenantService",
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

logger = logging.getLogger(__name__)

LEASE_MARGIN_SECONDS = 5.0
"""A lease lives this much longer than the deadline for Clerk: the time to write the listing."""

JUST_IN_TIME_SECONDS = 10.0
"""A user who asks for an unknown organization is listed again in Clerk, if the last listing is older."""

LEASE_POLL_SECONDS = 0.1


JsonFields = tuple[tuple[str, str], ...]
"""Names in JSON, each with its column or annotation."""


class SyncState(StrEnum):
    """The source of the data in a list of tenants; the value of the header `X-Clerk-Sync`."""

    SYNCED = "synced"
    FRESH = "fresh"
    SKIPPED = "skipped"
    STALE = "stale"


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
        is_fresh, tenants = _listed(clerk_user_id, fields, active_only)
        if not sync:
            return SyncState.SKIPPED, tenants
        if is_fresh:
            return SyncState.FRESH, tenants
        state = TenantService.sync_user_tenants_from_clerk(clerk_user_id)
        return state, _listed(clerk_user_id, fields, active_only)[1]

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
            organization = _fetch(clerk_org_id)
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


def sync_clerk_org_to_db(
    clerk_org_id: str, clerk_org_data: Mapping[str, Any] | ClerkOrganization | None = None
) -> Tenant | None:
    """Mirror one organization, from `clerk_org_data` when given, else fetched from Clerk.

    Return its tenant; None if the organization is recorded as deleted or unknown to Clerk. If Clerk answers
    404, record the organization of an existing tenant as deleted. Raise ClerkError if Clerk cannot be asked.
    """
    asked_at = writer.clock()
    try:
        organization = _given(clerk_org_id, clerk_org_data) or _get(clerk_org_id)
    except ClerkNotFound:
        _record_deleted_if_known(clerk_org_id, asked_at)
        return None
    writer.write_organization(organization)
    return Tenant.objects.filter(clerk_org_id=clerk_org_id, deleted_at=None).first()


def sync_organization(clerk_org_id: str) -> Tenant | None:
    """Fetch an organization and all its memberships, mirror them, and return the tenant.

    Members that Clerk no longer lists end; legacy members stay. An organization that is recorded as deleted
    but exists in Clerk is restored, with the tenant's earlier status and the members from Clerk. If Clerk
    answers 404, record the organization of an existing tenant as deleted and return None. Raise
    OrganizationDeleted if the organization was recorded as deleted less than 60 s ago and Clerk has it,
    ClerkMisconfigured for a key of another instance, and ClerkError; then nothing is written.
    """
    asked_at = writer.clock()
    try:
        organization = _get(clerk_org_id)
    except ClerkNotFound:
        _record_deleted_if_known(clerk_org_id, asked_at)
        return None
    memberships = iter_clerk_memberships(clerk_org_id).to_list()
    if Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=clerk_org_id).exists():
        _require_known_instance(clerk_org_id)
        restoring.restore(
            organization,
            memberships,
            asked_at=asked_at,
            complete=memberships.complete,
            skipped_ids=memberships.skipped_ids,
        )
        logger.info("%s is in Clerk after all; its tenant is restored", clerk_org_id)
    else:
        writer.write_organization_listing(
            organization,
            memberships,
            listed_at=asked_at,
            complete=memberships.complete,
            skipped_ids=memberships.skipped_ids,
        )
    return Tenant.objects.filter(clerk_org_id=clerk_org_id).first()


def rename(tenant: Tenant, *, name: str | None = None, slug: str | None = None, acting_user: Any) -> Tenant:
    """Change the tenant's name or slug, or both: in Clerk first for a linked tenant, then here.

    None leaves a value unchanged. Raise TenantInactive, OrganizationDeleted if Clerk does not know the
    organization any more, or ClerkError; then nothing is changed here. If the error's `outcome_unknown` is
    true, Clerk may have changed the organization, and the next sync writes it here; the next read of an
    acting Clerk user syncs.
    """
    changes = {key: value for key, value in {"name": name, "slug": slug}.items() if value is not None}
    refuse_inactive(tenant)
    if tenant.clerk_org_id is None:
        return rename_legacy(tenant, changes, acting_user=acting_user)
    asked_at = writer.clock()
    with default_deadline():
        require_own_instance()
        try:
            organization = update_clerk_org(tenant.clerk_org_id, **changes)
        except ClerkNotFound as error:
            _record_deleted_if_known(tenant.clerk_org_id, asked_at)
            raise OrganizationDeleted(
                f"{tenant.clerk_org_id} was deleted in Clerk. Tenant {tenant.pk} was not renamed."
            ) from error
        except ClerkError as error:
            if error.outcome_unknown and isinstance(acting_user, ClerkUser):
                leases.expire(acting_user.clerk_user_id)
            raise
    with acting(acting_user):
        writer.write_organization(organization)
    tenant.refresh_from_db()
    return tenant


def change(
    tenant: Tenant,
    *,
    name: str | None = None,
    slug: str | None = None,
    status: str | None = None,
    suspension_reason: str = "",
    acting_user: Any,
) -> None:
    """Rename the tenant, change its status, or both; None leaves a value unchanged.

    An inactive tenant is reactivated before it is renamed; any other tenant is renamed first. Raise what
    `rename` and the changes of status raise.
    """
    if status == Tenant.Status.ACTIVE:
        reactivate(tenant, acting_user=acting_user)
    if name is not None or slug is not None:
        rename(tenant, name=name, slug=slug, acting_user=acting_user)
    if status == Tenant.Status.SUSPENDED:
        suspend(tenant, reason=suspension_reason, acting_user=acting_user)
    elif status == Tenant.Status.DEACTIVATED:
        deactivate(tenant, acting_user=acting_user)


def delete(tenant: Tenant, *, acting_user: Any, delete_clerk_organization: bool = False) -> None:
    """Delete the tenant and its memberships permanently; the organization's tombstone is kept.

    With `delete_clerk_organization`, deletes the organization in Clerk first. Without it, raise
    OrganizationExists if Clerk has the organization. Raise TenantInUse, AlreadyLinked (linked in the
    meantime) or ClerkError; then nothing is deleted here.
    """
    refuse_in_use(tenant)
    if tenant.clerk_org_id is not None and (delete_clerk_organization or tenant.deleted_at is None):
        with default_deadline():
            require_own_instance()
            _require_known_instance(tenant.clerk_org_id)
            _end_in_clerk(tenant, delete_clerk_organization)
    delete_here(tenant, acting_user=acting_user)
    logger.info("tenant %s deleted by %s", tenant.pk, acting_user or "the system")


def restore(tenant: Tenant, *, acting_user: Any) -> Tenant:
    """Restore a tenant that is recorded as deleted, if Clerk has its organization after all.

    The tenant gets its earlier status, and its members from Clerk. Raise UnknownOrganization if it is not
    recorded as deleted or Clerk does not have the organization, OrganizationDeleted if it was recorded as
    deleted less than 60 s ago, and ClerkError; then nothing is changed.
    """
    if tenant.clerk_org_id is None or tenant.deleted_at is None:
        raise UnknownOrganization(f"Tenant {tenant.pk} is not recorded as deleted in Clerk.")
    with acting(acting_user), default_deadline():
        restored = sync_organization(tenant.clerk_org_id)
    if restored is None or restored.deleted_at is not None:
        raise UnknownOrganization(
            f"Clerk has no organization {tenant.clerk_org_id}. Tenant {tenant.pk} was not changed."
        )
    return restored


def list_user(clerk_user_id: str, lease: leases.Lease) -> int:
    """List all memberships of the user in Clerk, mirror them, and return their number.

    Writes what `writer.write_user_listing` does, which closes the lease. If this fails, release the
    lease, write nothing else, and raise ClerkError (for example WrongInstance) or DatabaseError.
    """
    try:
        if lease.instance_id is None:
            require_own_instance()
        else:
            refuse_other_instance(lease.instance_id)
        memberships = get_user_clerk_orgs(clerk_user_id)
        writer.write_user_listing(
            clerk_user_id,
            memberships,
            lease=lease.id,
            listed_at=lease.listed_at,
            complete=memberships.complete,
            skipped_ids=memberships.skipped_ids,
        )
    except Exception as error:
        with suppress(DatabaseError):  # The lease expires by itself.
            leases.release_lease(clerk_user_id, lease, back_off=not isinstance(error, ClerkNotAsked))
        raise
    return len(memberships)


def await_lease(clerk_user_id: str, deadline: float, *, max_age: float | None = None) -> leases.LeaseState:
    """Wait until the user's memberships are fresh, or this process has the lease to list them.

    `max_age` is as in `leases.take_lease`. Neither is true if the deadline passes first, during
    `leases.BACK_OFF_SECONDS` after a failed listing, or if too many threads wait for Clerk.
    """
    state = _take_lease(clerk_user_id, max_age)
    if _is_decided(state):
        return state
    with suppress(ClerkNotAsked), waiting_for_clerk():
        while not _is_decided(state) and time.monotonic() < deadline:
            time.sleep(LEASE_POLL_SECONDS)
            state = _take_lease(clerk_user_id, max_age)
    return state


def _take_lease(clerk_user_id: str, max_age: float | None) -> leases.LeaseState:
    seconds = clerk_settings.timeout_seconds + LEASE_MARGIN_SECONDS
    return leases.take_lease(clerk_user_id, seconds=seconds, max_age=max_age)


def _is_decided(state: leases.LeaseState) -> bool:
    return state.is_fresh or state.is_backing_off or state.lease is not None


def _listed(clerk_user_id: str, fields: JsonFields, active_only: bool) -> tuple[bool, list[dict[str, Any]]]:
    """Return whether the user's memberships are fresh, and the user's tenants."""
    statement, constants = _list_statement(fields, active_only)
    max_age = clerk_settings.sync_max_age_seconds
    [(is_fresh, tenants)] = query(statement, user_id=clerk_user_id, max_age=max_age, **constants)
    return is_fresh, tenants


@cache
def _list_statement(fields: JsonFields, active_only: bool) -> tuple[str, dict[str, Any]]:
    """Return the statement of `_listed` and its constants; Django needs milliseconds to build the query."""
    placeholder = "the user's id"
    tenants = Tenant.objects.in_caller_list(placeholder, active_only=active_only)
    rows, constants = with_names(json_array(json_values(tenants, dict(fields))), user_id=placeholder)
    return f"SELECT {leases.IS_FRESH}, {rows}", constants


def _end_in_clerk(tenant: Tenant, delete_clerk_organization: bool) -> None:
    """Delete the tenant's organization in Clerk, or raise OrganizationExists if Clerk has it."""
    clerk_org_id = str(tenant.clerk_org_id)
    with suppress(ClerkNotFound):
        if delete_clerk_organization:
            delete_clerk_org(clerk_org_id)
        else:
            get_clerk_org(clerk_org_id)
            raise OrganizationExists(
                f"Clerk still has {clerk_org_id}, the organization of tenant {tenant.pk}. Nothing was"
                " deleted. Delete the organization too, or unlink the tenant first."
            )


def _adopt(clerk_user_id: str, clerk_org_id: str, *, make_primary: bool) -> Tenant:
    organization = _fetch(clerk_org_id)
    membership = get_clerk_membership(clerk_org_id, clerk_user_id)
    if membership is None:
        raise NotAMember(f"{clerk_user_id} is not a member of {clerk_org_id} in Clerk.")
    return adopt_organization(clerk_user_id, organization, membership, make_primary=make_primary)


def _get(clerk_org_id: str) -> ClerkOrganization:
    require_own_instance()
    return get_clerk_org(clerk_org_id)


def _fetch(clerk_org_id: str) -> ClerkOrganization:
    try:
        return get_clerk_org(clerk_org_id)
    except ClerkNotFound as error:
        raise UnknownOrganization(f"Clerk has no organization {clerk_org_id}.") from error


def _given(clerk_org_id: str, data: Mapping[str, Any] | ClerkOrganization | None) -> ClerkOrganization | None:
    if data is None or isinstance(data, ClerkOrganization):
        organization = data
    else:
        organization = ClerkOrganization.from_json(data)
    if organization is not None and organization.id != clerk_org_id:
        raise ValueError(f"the data given is of {organization.id}, not of {clerk_org_id}")
    return organization


def _record_deleted_if_known(clerk_org_id: str, asked_at: datetime) -> None:
    """Record the organization as deleted if it has a tenant here. Call it after a 404 from Clerk.

    Do nothing if the tenant was synced after Clerk was asked: the 404 may be stale. Raise ClerkMisconfigured
    if the key is of another instance, where every id that is stored here gets a 404.
    """
    known = Tenant.objects.filter(clerk_org_id=clerk_org_id, deleted_at=None)
    if not known.exclude(last_synced_at__gte=asked_at).exists():
        return
    _require_known_instance(clerk_org_id)
    deletions.record_organization_deleted(clerk_org_id, source=Tombstone.Source.NOT_FOUND)


def _require_known_instance(clerk_org_id: str) -> None:
    """Raise ClerkMisconfigured unless Clerk confirms that CLERK_SECRET_KEY is of the known instance."""
    expected = known_instance_id()
    if not expected:
        raise ClerkMisconfigured(
            f"It is not known which Clerk instance {clerk_org_id} belongs to. Nothing was changed. Set"
            " CLERK_INSTANCE_ID (`manage.py check_clerk` prints it), so that a deleted organization is not"
            " confused with a key of another instance."
        )
    if get_clerk_instance().id != expected:
        raise ClerkMisconfigured(
            f"CLERK_SECRET_KEY is not of the Clerk instance {expected}. Nothing was changed. Use that"
            " instance's key."
        )
