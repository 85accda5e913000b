"""Sync one organization or one user by id, for an operator or a request."""

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.exceptions import ClerkNotFound
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.ids import validate_org_id, validate_user_id
from tenants.creation.instances import right_instance
from tenants.exceptions import NotAMember, SyncAlreadyRunning, UnknownOrganization
from tenants.mirror import leases
from tenants.models import Tenant
from tenants.services import list_user, sync_organization

LEASE_SECONDS = JOB_TIMEOUT_SECONDS + 5.0


def sync_one_organization(clerk_org_id: str) -> Tenant:
    """Mirror one organization with all its members, as `services.sync_organization` does.

    Raise InvalidClerkId, UnknownOrganization if neither Clerk nor the mirror has the organization,
    OrganizationDeleted, WrongInstance and ClerkError.
    """
    validate_org_id(clerk_org_id)
    right_instance()
    with clerk_deadline(JOB_TIMEOUT_SECONDS):
        tenant = sync_organization(clerk_org_id)
    tenant = tenant or Tenant.objects.filter(clerk_org_id=clerk_org_id).first()
    if tenant is None:
        raise UnknownOrganization(f"Clerk has no organization {clerk_org_id}.")
    return tenant


def sync_one_user(clerk_user_id: str) -> int:
    """Mirror all memberships of one user, even if they are fresh; return how many memberships Clerk lists.

    Write the same rows as `TenantService.sync_user_tenants_from_clerk`. Raise InvalidClerkId, NotAMember
    if Clerk has no such user, SyncAlreadyRunning while another process syncs the same user, WrongInstance
    and ClerkError.
    """
    validate_user_id(clerk_user_id)
    right_instance()
    leases.expire(clerk_user_id)
    lease = leases.take_lease(clerk_user_id, seconds=LEASE_SECONDS).lease
    if lease is None:
        raise SyncAlreadyRunning(
            f"{clerk_user_id} is being synced by another process. Try again in a few seconds."
        )
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            return list_user(clerk_user_id, lease)
    except ClerkNotFound:
        raise NotAMember(f"Clerk has no user {clerk_user_id}. Nothing was changed.") from None
