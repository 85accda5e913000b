"""`updated_at` moves with every change of what the API shows, and with nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants.lifecycle import link, primary
from tenants.mirror import deletions, writer
from tenants.models import Membership, Tenant, Tombstone

pytestmark = pytest.mark.django_db

ACME = ClerkOrganization(id="org_acme", name="Acme", created_at=1000, updated_at=1000)
OTHER = ClerkOrganization(id="org_other", name="Other", created_at=1000, updated_at=1000)
ADA = ClerkMembership("orgmem_1", "user_ada", "org:admin", ACME, 1000, 1000)


@pytest.fixture
def linked() -> Tenant:
    writer.write_memberships([ADA])
    return Tenant.objects.get()


def link_to(tenant: Tenant, organization: ClerkOrganization) -> None:
    link.link(tenant, organization, [], listed_at=writer.clock(), complete=False, acting_user=None)


def unlink_and_link_again(tenant: Tenant) -> None:
    link.unlink(tenant, acting_user=None)
    link_to(tenant, ACME)


CHANGES: dict[str, Callable[[Tenant], Any]] = {
    "rename": lambda tenant: writer.write_organizations([replace(ACME, name="New", updated_at=2000)]),
    "metadata": lambda tenant: writer.write_organizations([replace(ACME, public_metadata={"a": 1})]),
    "deletion in Clerk": lambda tenant: deletions.record_organization_deleted(
        ACME.id, source=Tombstone.Source.EVENT
    ),
    "unlink": lambda tenant: link.unlink(tenant, acting_user=None),
    "unlink and link": unlink_and_link_again,
    "status": lambda tenant: Tenant.objects.filter(pk=tenant.pk).update(status="suspended"),
}

OTHERS: dict[str, Callable[[Tenant], Any]] = {
    "an unchanged record": lambda tenant: writer.write_organization(ACME),
    "a new member": lambda tenant: writer.write_memberships([replace(ADA, id="orgmem_2", user_id="user_b")]),
    "a moved primary": lambda tenant: primary.set_primary(ADA.user_id, tenant),
    "a link to the same organization": lambda tenant: link_to(tenant, ACME),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_updated_at_moves_with_a_change_that_the_api_shows(linked: Tenant, change: str) -> None:
    before = linked.updated_at

    CHANGES[change](linked)

    linked.refresh_from_db()
    assert linked.updated_at > before


@pytest.mark.parametrize("other", list(OTHERS))
def test_updated_at_stays_without_a_change_that_the_api_shows(linked: Tenant, other: str) -> None:
    before = linked.updated_at

    OTHERS[other](linked)

    linked.refresh_from_db()
    assert linked.updated_at == before


def test_updated_at_moves_when_a_legacy_tenant_absorbs_its_mirror(linked: Tenant) -> None:
    tenant = Tenant.objects.create(name="Acme")
    before = Tenant.objects.get(pk=tenant.pk).updated_at

    link_to(tenant, ACME)

    tenant.refresh_from_db()
    assert tenant.clerk_org_id == ACME.id
    assert tenant.updated_at > before
    assert Membership.objects.get().tenant == tenant


def test_updated_at_moves_when_a_marker_links_a_legacy_tenant() -> None:
    from tenants.creation.installation import installation_id

    tenant = Tenant.objects.create(name="Acme", clerk_updated_at=None)
    before = Tenant.objects.get(pk=tenant.pk).updated_at
    marker = {"tenant": tenant.pk, "installation": str(installation_id())}

    writer.write_organizations([replace(OTHER, name="Acme", marker=marker)])

    tenant.refresh_from_db()
    assert tenant.clerk_org_id == OTHER.id
    assert tenant.updated_at > before
