"""Take a snapshot of Clerk: one complete listing of its organizations, searched for our markers and slugs."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from clerk_integration.entities import ClerkOrganization
from clerk_integration.organizations import iter_clerk_orgs
from clerk_integration.wire.deadlines import default_deadline
from tenants.backfill.attempts import attempts_for
from tenants.creation.installation import installation_id
from tenants.creation.search import UNRESOLVED_SECONDS
from tenants.mirror import writer
from tenants.mirror.rows import attempt_marker, tenant_markers
from tenants.models import CreationAttempt

LISTING_SECONDS = 600.0
"""How long the whole listing may wait for Clerk: 100,000 organizations are 200 pages."""


@dataclass
class ClerkSnapshot:
    """The organizations in Clerk that carry the markers of given tenants, and the slugs that are taken."""

    began_at: datetime
    complete: bool = False
    taken_slugs: set[str] = field(default_factory=set)
    _by_attempt: dict[UUID, ClerkOrganization] = field(default_factory=dict)
    _by_tenant: dict[int, list[ClerkOrganization]] = field(default_factory=dict)

    @property
    def organization_ids(self) -> set[str]:
        """Return the ids of the organizations that were created for one of the tenants."""
        by_tenant = [organization for found in self._by_tenant.values() for organization in found]
        return {organization.id for organization in (*by_tenant, *self._by_attempt.values())}

    def with_marker(self, tenant_id: int, attempt: CreationAttempt | None) -> list[ClerkOrganization]:
        """Return the organizations whose marker names the tenant or its attempt."""
        found = list(self._by_tenant.get(tenant_id, ()))
        if attempt is not None and attempt.marker in self._by_attempt:
            found.append(self._by_attempt[attempt.marker])
        return list({organization.id: organization for organization in found}.values())

    def is_late_enough(self, attempt: CreationAttempt) -> bool:
        """Return whether the listing began late enough to contain the organization of the attempt."""
        return (self.began_at - attempt.sent_at).total_seconds() >= UNRESOLVED_SECONDS

    def add(
        self,
        organization: ClerkOrganization,
        attempts: Collection[UUID],
        tenant_ids: Collection[int],
        installation: str,
    ) -> None:
        """Keep the organization if its marker names one of the attempts or tenants."""
        attempt = attempt_marker(organization)
        if attempt is not None and attempt in attempts:
            self._by_attempt[attempt] = organization
        for marker in tenant_markers([organization]):
            if marker["installation"] == installation and marker["tenant_id"] in tenant_ids:
                self._by_tenant.setdefault(marker["tenant_id"], []).append(organization)


class LazySnapshot:
    """A snapshot for several tenants, taken when it is needed for the first time."""

    def __init__(self, tenant_ids: Collection[int]) -> None:
        self._tenant_ids = tenant_ids
        self._snapshot: ClerkSnapshot | None = None

    def __call__(self, attempt: CreationAttempt) -> ClerkSnapshot:
        """Return a snapshot that contains the organization of the attempt, if Clerk has created one.

        Take a new snapshot if the last one began too early for that; raise ClerkError if Clerk fails.
        """
        if self._snapshot is None or not self._snapshot.is_late_enough(attempt):
            self._snapshot = take_snapshot(self._tenant_ids)
        return self._snapshot


def take_snapshot(tenant_ids: Collection[int], *, slugs: Iterable[str] = ()) -> ClerkSnapshot:
    """List all organizations of the instance; keep the tenants' organizations and the taken slugs.

    A slug that differs from one of `slugs` only by a number at its end is kept too, so that the caller
    can suggest a free one. Call Clerk once for each 500 organizations, in `LISTING_SECONDS` unless a
    deadline is running. Raise ClerkError.
    """
    attempts = {attempt.marker for attempt in attempts_for(tenant_ids).values()}
    stems = frozenset(map(_stem, slugs))
    installation = str(installation_id())
    snapshot = ClerkSnapshot(began_at=writer.clock())
    with default_deadline(LISTING_SECONDS):
        listing = iter_clerk_orgs()
        for organization in listing:
            if organization.slug and _stem(organization.slug) in stems:
                snapshot.taken_slugs.add(organization.slug)
            snapshot.add(organization, attempts, tenant_ids, installation)
    snapshot.complete = listing.complete
    return snapshot


def _stem(slug: str) -> str:
    return re.sub(r"(-\d+)+$", "", slug)
