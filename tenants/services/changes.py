"""Change a tenant where Clerk must be asked first: rename, delete, restore."""

import logging
from contextlib import suppress
from typing import Any

from clerk_integration.exceptions import ClerkError, ClerkNotFound
from clerk_integration.organizations import (
    delete_clerk_org,
    get_clerk_org,
    update_clerk_org,
)
from clerk_integration.tokens.clerk_user import ClerkUser
from clerk_integration.wire.deadlines import default_deadline
from tenants.creation.instances import require_own_instance
from tenants.exceptions import (
    AlreadyLinked,
    OrganizationDeleted,
    OrganizationExists,
    TenantInUse,
    UnknownOrganization,
)
from tenants.history import acting
from tenants.lifecycle.delete import delete as delete_here
from tenants.lifecycle.delete import refuse_in_use
from tenants.lifecycle.rename import rename_legacy
from tenants.lifecycle.status import deactivate, reactivate, refuse_inactive, suspend
from tenants.mirror import leases, writer
from tenants.models import Tenant
from tenants.services.organizations import record_deleted_if_known, require_known_instance, sync_organization

logger = logging.getLogger("tenants.services")


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
            record_deleted_if_known(tenant.clerk_org_id, asked_at)
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
    deleted_in_clerk = ""
    if tenant.clerk_org_id is not None and (delete_clerk_organization or tenant.deleted_at is None):
        with default_deadline():
            require_own_instance()
            require_known_instance(tenant.clerk_org_id)
            deleted_in_clerk = _end_in_clerk(tenant, delete_clerk_organization)
    try:
        delete_here(tenant, acting_user=acting_user)
    except (AlreadyLinked, TenantInUse) as error:
        if not deleted_in_clerk:
            raise
        raise type(error)(
            f"{deleted_in_clerk} was deleted in Clerk. Tenant {tenant.pk} was not deleted here, because it"
            " has been changed in the meantime. Look at it, then try again."
        ) from error
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


def _end_in_clerk(tenant: Tenant, delete_clerk_organization: bool) -> str:
    """Delete the tenant's organization in Clerk, and return its id; empty if Clerk did not have it.

    Without `delete_clerk_organization`, raise OrganizationExists if Clerk has it.
    """
    clerk_org_id = str(tenant.clerk_org_id)
    with suppress(ClerkNotFound):
        if delete_clerk_organization:
            delete_clerk_org(clerk_org_id)
            return clerk_org_id
        get_clerk_org(clerk_org_id)
        raise OrganizationExists(
            f"Clerk still has {clerk_org_id}, the organization of tenant {tenant.pk}. Nothing was"
            " deleted. Delete the organization too, or unlink the tenant first."
        )
    return ""
