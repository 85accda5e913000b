"""Tenants as they were before there was Clerk."""

import warnings
from collections.abc import Mapping

from tenants.models import Membership, Tenant
from tenants.services import TenantService


def legacy_tenant(name: str, roles: Mapping[str, str]) -> Tenant:
    """Return the legacy tenant of an earlier start, or make it as before there was Clerk.

    `roles` are those of its members, by user id. Writes tenant and members.
    """
    tenant = Tenant.objects.filter(clerk_org_id=None, name=name).first()
    if tenant is None:
        with warnings.catch_warnings():
            # Deprecated for new tenants; this one is to be of the old kind.
            warnings.simplefilter("ignore", DeprecationWarning)
            tenant = TenantService.create_tenant({"name": name})
    for user_id, role in roles.items():
        Membership.objects.get_or_create(tenant=tenant, clerk_user_id=user_id, defaults={"role": role})
    return tenant
