"""Restore a tenant whose organization is recorded as deleted but exists in Clerk."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from tenants.mirror import deletions, writer


def restore(
    organization: ClerkOrganization,
    memberships: Sequence[ClerkMembership],
    *,
    asked_at: datetime,
    complete: bool,
    skipped_ids: Sequence[str] = (),
) -> None:
    """Remove the organization's tombstone, and mirror the organization and all its memberships.

    The tenant gets the status that it had before it was recorded as deleted, and its members from Clerk; an
    organization without a tenant gets a new one. `asked_at` is the database's time before the GET of the
    organization. Raise OrganizationDeleted if the tombstone was less than 60 s old at `asked_at`.
    """
    with transaction.atomic():
        deletions.remove_tombstone(organization.id, asked_at=asked_at)
        writer.write_organization_listing(
            organization, memberships, listed_at=asked_at, complete=complete, skipped_ids=skipped_ids
        )
