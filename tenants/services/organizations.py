"""Mirror one organization: fetch it from Clerk, and write or delete it here."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from clerk_integration.entities import ClerkOrganization
from clerk_integration.exceptions import ClerkMisconfigured, ClerkNotFound
from clerk_integration.instance import (
    get_clerk_instance,
    known_instance_id,
)
from clerk_integration.organizations import (
    get_clerk_org,
    iter_clerk_memberships,
)
from tenants.creation.instances import require_own_instance
from tenants.exceptions import (
    UnknownOrganization,
)
from tenants.lifecycle import restore as restoring
from tenants.mirror import deletions, writer
from tenants.models import Tenant, Tombstone

logger = logging.getLogger("tenants.services")


def sync_clerk_org_to_db(
    clerk_org_id: str, clerk_org_data: Mapping[str, Any] | ClerkOrganization | None = None
) -> Tenant | None:
    """Mirror one organization, from `clerk_org_data` when given, else fetched from Clerk.

    Return its tenant; None if the organization is recorded as deleted or unknown to Clerk. If Clerk answers
    404, record the organization of an existing tenant as deleted. Raise ClerkError if Clerk cannot be asked.
    """
    asked_at = writer.clock()
    try:
        organization = _given(clerk_org_id, clerk_org_data) or get_organization(clerk_org_id)
    except ClerkNotFound:
        record_deleted_if_known(clerk_org_id, asked_at)
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
        organization = get_organization(clerk_org_id)
    except ClerkNotFound:
        record_deleted_if_known(clerk_org_id, asked_at)
        return None
    memberships = iter_clerk_memberships(clerk_org_id).to_list()
    if Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id=clerk_org_id).exists():
        require_known_instance(clerk_org_id)
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


def get_organization(clerk_org_id: str) -> ClerkOrganization:
    require_own_instance()
    return get_clerk_org(clerk_org_id)


def fetch_organization(clerk_org_id: str) -> ClerkOrganization:
    try:
        return get_clerk_org(clerk_org_id)
    except ClerkNotFound as error:
        raise UnknownOrganization(f"Clerk has no organization {clerk_org_id}.") from error


def record_deleted_if_known(clerk_org_id: str, asked_at: datetime) -> None:
    """Record the organization as deleted if it has a tenant here. Call it after a 404 from Clerk.

    Do nothing if the tenant was synced after Clerk was asked: the 404 may be stale. Raise ClerkMisconfigured
    if the key is of another instance, where every id that is stored here gets a 404.
    """
    known = Tenant.objects.filter(clerk_org_id=clerk_org_id, deleted_at=None)
    if not known.exclude(last_synced_at__gte=asked_at).exists():
        return
    require_known_instance(clerk_org_id)
    deletions.record_organization_deleted(clerk_org_id, source=Tombstone.Source.NOT_FOUND)


def require_known_instance(clerk_org_id: str) -> None:
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


def _given(clerk_org_id: str, data: Mapping[str, Any] | ClerkOrganization | None) -> ClerkOrganization | None:
    if data is None or isinstance(data, ClerkOrganization):
        organization = data
    else:
        organization = ClerkOrganization.from_json(data)
    if organization is not None and organization.id != clerk_org_id:
        raise ValueError(f"the data given is of {organization.id}, not of {clerk_org_id}")
    return organization
