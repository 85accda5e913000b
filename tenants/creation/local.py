"""Create a tenant without asking Clerk."""

from django.db import IntegrityError, transaction

from tenants.exceptions import AlreadyLinked
from tenants.mirror import deletions, locks
from tenants.models import Tenant


def create_local_tenant(*, name: str, slug: str | None, clerk_org_id: str | None) -> Tenant:
    """Insert a tenant without asking Clerk.

    Raise OrganizationDeleted if the organization is recorded as deleted, AlreadyLinked if another tenant is
    linked to it.
    """
    try:
        with transaction.atomic():
            if clerk_org_id is not None:
                locks.share(organizations=[clerk_org_id])
                deletions.refuse_deleted(clerk_org_id)
            return Tenant.objects.create(name=name, slug=slug, clerk_org_id=clerk_org_id)
    except IntegrityError:
        raise AlreadyLinked(f"{clerk_org_id} belongs to another tenant.") from None
