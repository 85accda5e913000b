"""Create a tenant without asking Clerk."""

from django.db import IntegrityError, transaction

from tenants.exceptions import AlreadyLinked
from tenants.lifecycle.link import refuse_deleted
from tenants.mirror import writer
from tenants.models import Tenant


def create_local_tenant(*, name: str, slug: str | None, clerk_org_id: str | None) -> Tenant:
    """Insert a tenant without asking Clerk.

    Raise OrganizationDeleted when the id is dead in Clerk, AlreadyLinked when another tenant has it.
    """
    with transaction.atomic():
        if clerk_org_id is not None:
            writer.share_writers_lock()
            refuse_deleted(clerk_org_id)
            _refuse_linked(clerk_org_id)
        try:
            with transaction.atomic():
                return Tenant.objects.create(name=name, slug=slug, clerk_org_id=clerk_org_id)
        except IntegrityError:
            raise AlreadyLinked(f"{clerk_org_id} belongs to another tenant.") from None


def _refuse_linked(clerk_org_id: str) -> None:
    if Tenant.objects.filter(clerk_org_id=clerk_org_id).exists():
        raise AlreadyLinked(f"{clerk_org_id} belongs to another tenant.")
