"""Creations whose reply was lost: found by their marker, or certain to have created nothing."""

import logging
from datetime import timedelta

from clerk_integration.entities import ClerkOrganization
from clerk_integration.listing import ClerkPage
from clerk_integration.organizations import get_clerk_orgs_page
from tenants import facts, sync, transitions
from tenants.attempts import UNRESOLVED_SECONDS
from tenants.models import CreationAttempt
from tenants.reconcile.reading import Seen, read_whole

logger = logging.getLogger(__name__)


def resolve_creations() -> int:
    """Settle the creations that have had no outcome for a minute; return how many there were.

    Searches all of Clerk's organizations, and only when there is such a creation. One that is found
    is mirrored, its creator by the next sync; one that a complete search did not find has failed, and
    its request may be sent again. Writes `creation_attempts`, `tenants`. Raise ListKeepsMoving and
    ClerkError; what was found until then is settled.
    """
    sent_before = sync.clock() - timedelta(seconds=UNRESOLVED_SECONDS)
    waiting = CreationAttempt.objects.filter(
        state__in=[CreationAttempt.State.SENT, CreationAttempt.State.UNKNOWN], sent_at__lt=sent_before
    )
    markers = {str(marker) for marker in waiting.values_list("marker", flat=True)}
    if not markers:
        return 0
    search = _Search(markers)
    read_whole(get_clerk_orgs_page, search)
    if search.nothing_hidden:
        failed = transitions.fail_creations(sent_before=sent_before)
        logger.info("%d creations settled, %d of them created nothing", len(markers), failed)
    return len(markers)


class _Search:
    """Looks for markers on the pages of Clerk's organizations, and adopts what carries one."""

    def __init__(self, markers: set[str]) -> None:
        self._markers = markers
        self._seen = Seen()

    @property
    def nothing_hidden(self) -> bool:
        """Whether every organization could be read."""
        return not self._seen.skipped

    def take(self, pass_number: int, page: ClerkPage[ClerkOrganization]) -> None:
        """Mirror the organizations that carry a wanted marker, and settle their creations."""
        self._seen.add(pass_number, page)
        found = [
            organization
            for organization in page.records
            if str(facts.attempt_marker(organization)) in self._markers
        ]
        if found:
            sync.write_organizations(found)
            transitions.settle_found(facts.attempt_markers(found))

    def seen(self, pass_number: int) -> int:
        """Return how many different organizations the pass has met, unreadable ones included."""
        return self._seen.count(pass_number)
