"""Tenants in the states that the actions are for."""

import pytest

from clerk_integration.models import LearnedInstance
from tenants.models import Tenant
from tenants.services import sync_organization
from tests.sandbox import SandboxControl


@pytest.fixture
def own_instance(db: None, sandbox: SandboxControl) -> None:
    """Store the local Clerk's instance, so that no test asks for it."""
    LearnedInstance.objects.create(instance_id=sandbox.description["instanceId"])


def mirrored(sandbox: SandboxControl, name: str = "Acme", members: int = 1) -> Tenant:
    """Create an organization in Clerk and mirror it."""
    users = [sandbox.user()["id"] for _ in range(members)]
    organization = sandbox.organization(name, users[0])["id"]
    for user in users[1:]:
        sandbox.membership(organization, user)
    tenant = sync_organization(organization)
    assert tenant is not None
    return tenant


def recorded_as_deleted(sandbox: SandboxControl, name: str = "Acme") -> Tenant:
    """Mirror an organization, and let Clerk answer 404 for it one time."""
    tenant = mirrored(sandbox, name)
    sandbox.fault(f"GET /v1/organizations/{tenant.clerk_org_id}", status=404)
    sync_organization(str(tenant.clerk_org_id))
    tenant.refresh_from_db()
    assert tenant.deleted_at is not None
    return tenant
