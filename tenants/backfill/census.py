"""One complete listing of Clerk's organizations: what a migration must know before it sends anything."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from clerk_integration.entities import ClerkOrganization
from clerk_integration.organizations import iter_clerk_orgs
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.creation import search
from tenants.creation.installation import installation_id
from tenants.exceptions import IdempotencyKeyInUse
from tenants.mirror import writer
from tenants.mirror.rows import attempt_marker, tenant_markers
from tenants.models import CreationAttempt

LISTING_SECONDS = 600.0
"""How long the whole listing may wait for Clerk: 100,000 organizations are 200 pages."""


@dataclass
class Census:
    """The organizations that are somebody's here, and the slugs that are taken.

    Absence proves something only for attempts older than `began_at` by `search.UNRESOLVED_SECONDS`,
    and only when the listing was `complete`.
    """

    began_at: datetime
    complete: bool = False
    by_attempt: dict[UUID, ClerkOrganization] = field(default_factory=dict)
    by_tenant: dict[int, list[ClerkOrganization]] = field(default_factory=dict)
    taken_slugs: set[str] = field(default_factory=set)

    def search(self, attempt: CreationAttempt) -> ClerkOrganization | None:
        """Return what an attempt of unknown outcome has created; None when that is certainly nothing.

        Raise IdempotencyKeyInUse while its sender may be busy, or while nobody can be certain.
        """
        organization = self.by_attempt.get(attempt.marker)
        age = (writer.clock() - attempt.sent_at).total_seconds()
        if attempt.state == CreationAttempt.State.SENT and age < search.IN_FLIGHT_SECONDS:
            raise search.in_progress(retry_after=search.IN_FLIGHT_SECONDS - age)
        if organization is None and not self._is_conclusive(attempt):
            raise IdempotencyKeyInUse(
                "An earlier run sent this tenant's organization and got no answer, and it is not certain"
                " yet that Clerk has not created it. Nothing was sent again; run this again in a minute.",
                retry_after=max(0.0, search.UNRESOLVED_SECONDS - age),
            )
        return organization

    def marked(self, tenant_id: int, attempt: CreationAttempt | None) -> list[ClerkOrganization]:
        """Return the organizations that carry the marker of the tenant or of its attempt."""
        found = {organization.id: organization for organization in self.by_tenant.get(tenant_id, ())}
        if attempt is not None and attempt.marker in self.by_attempt:
            organization = self.by_attempt[attempt.marker]
            found[organization.id] = organization
        return list(found.values())

    def _is_conclusive(self, attempt: CreationAttempt) -> bool:
        head_start = (self.began_at - attempt.sent_at).total_seconds()
        return self.complete and head_start >= search.UNRESOLVED_SECONDS


def take_census(
    *, markers: Collection[UUID] = (), tenant_ids: Collection[int] = (), slugs: Iterable[str] = ()
) -> Census:
    """List all organizations of the instance; remember those of these attempts, tenants and slugs.

    Of slugs also those that differ by a number at the end, so that a free one can be suggested.

    Reads Clerk, one call for each 500. Raise ClerkError.
    """
    wanted_stems = frozenset(map(_stem, slugs))
    ours = str(installation_id())
    census = Census(began_at=writer.clock())
    with clerk_deadline(LISTING_SECONDS):
        listing = iter_clerk_orgs()
        for organization in listing:
            if organization.slug and _stem(organization.slug) in wanted_stems:
                census.taken_slugs.add(organization.slug)
            _note_marker(census, organization, markers, tenant_ids, ours)
    census.complete = listing.complete
    return census


def _stem(slug: str) -> str:
    return re.sub(r"(-\d+)+$", "", slug)


def _note_marker(
    census: Census,
    organization: ClerkOrganization,
    markers: Collection[UUID],
    tenant_ids: Collection[int],
    ours: str,
) -> None:
    attempt = attempt_marker(organization)
    if attempt is not None and attempt in markers:
        census.by_attempt[attempt] = organization
    for marked in tenant_markers([organization]):
        if marked["installation"] == ours and marked["tenant_id"] in tenant_ids:
            census.by_tenant.setdefault(marked["tenant_id"], []).append(organization)
