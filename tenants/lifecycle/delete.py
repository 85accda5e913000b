"""Delete a tenant."""

from typing import Any

from django.db import router, transaction
from django.db.models import ProtectedError, RestrictedError
from django.db.models.deletion import Collector

from tenants import signals
from tenants.exceptions import AlreadyLinked, TenantInUse
from tenants.history import change_by
from tenants.lifecycle.link import lock_with_organization
from tenants.mirror import deletions
from tenants.models import Tenant, Tombstone
from tenants.sql import see_all_tenants


def delete(tenant: Tenant, *, acting_user: Any) -> None:
    """Delete the tenant and its memberships permanently. Writes `tombstones`, too.

    Call it after the organization of a linked tenant was deleted in Clerk. Records the organization as
    deleted, so that no late event creates the tenant again. Raise AlreadyLinked if the tenant was linked in
    the meantime, and TenantInUse.
    """
    with change_by(acting_user):
        locked = lock_with_organization(tenant)
        if locked.clerk_org_id != tenant.clerk_org_id:
            raise AlreadyLinked(
                f"The link of tenant {locked.pk} has just been changed. Nothing was deleted. Try again."
            )
        refuse_in_use(locked)
        if locked.clerk_org_id is not None:
            deletions.record_organization_deleted(locked.clerk_org_id, source=Tombstone.Source.REQUEST)
        signals.announce_deletion(locked.pk, locked.clerk_org_id)
        locked.delete()


def refuse_in_use(tenant: Tenant) -> None:
    """Raise TenantInUse if a row that refers to the tenant protects it (`on_delete=PROTECT`)."""
    try:
        with transaction.atomic():
            see_all_tenants()
            Collector(using=router.db_for_write(Tenant), origin=tenant).collect([tenant])
    except (ProtectedError, RestrictedError) as error:
        names = sorted({str(row._meta.verbose_name_plural) for row in error.args[1]})
        raise TenantInUse(
            f"Tenant {tenant.pk} cannot be deleted: {', '.join(names)} refer to it. Nothing was deleted."
        ) from error
