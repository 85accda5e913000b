"""The preview of a link: what each side has now, and what the link changes."""

from collections.abc import Sequence
from dataclasses import dataclass

from clerk_integration.conf import clerk_settings
from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import ClerkNotFound
from clerk_integration.organizations import get_clerk_org, get_clerk_org_memberships_page
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.admin.actions.values import FieldRow, field_rows
from tenants.creation.instances import require_own_instance
from tenants.exceptions import UnknownOrganization
from tenants.lifecycle.link import refusals_of_link
from tenants.models import Membership, Tenant

SHOWN_MEMBERS = 20
"""The number of members of each side that the page names."""


@dataclass(frozen=True, slots=True)
class LinkPreview:
    """Both sides of a link.

    `absorbed` is the tenant that mirrors the organization now; `refusals` are the reasons why the link would
    be refused.
    """

    organization: ClerkOrganization
    fields: Sequence[FieldRow]
    members_here: Sequence[Membership]
    number_here: int
    members_in_clerk: Sequence[ClerkMembership]
    number_in_clerk: int
    absorbed: Tenant | None
    refusals: Sequence[str]


def preview_of(tenant: Tenant, clerk_org_id: str) -> LinkPreview:
    """Return what a link of the tenant to the organization would do. Write nothing.

    Call Clerk for the organization and the first page of its members. Raise InvalidClerkId,
    UnknownOrganization and ClerkError.
    """
    try:
        with clerk_deadline(clerk_settings.timeout_seconds):
            require_own_instance()
            organization = get_clerk_org(clerk_org_id)
            in_clerk = get_clerk_org_memberships_page(clerk_org_id)
    except ClerkNotFound as error:
        raise UnknownOrganization(f"Clerk has no organization {clerk_org_id}.") from error
    here = Membership.objects.of_tenant(tenant.pk).filter(is_active=True)
    absorbed, refusals = refusals_of_link(clerk_org_id)
    return LinkPreview(
        organization,
        field_rows(tenant, organization),
        list(here[:SHOWN_MEMBERS]),
        here.count(),
        in_clerk.records[:SHOWN_MEMBERS],
        in_clerk.total,
        absorbed,
        refusals,
    )
