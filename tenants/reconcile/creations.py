"""Creations whose reply was lost: found by their marker, or certain to have created nothing."""

import logging
from datetime import timedelta

from clerk_integration.entities import ClerkOrganization
from clerk_integration.organizations import get_clerk_orgs_page
from clerk_integration.wire.listing import ClerkPage
from clerk_integration.wire.passes import Seen, read_whole
from tenants.creation import attempts
from tenants.creation.search import UNRESOLVED_SECONDS
from tenants.mirror import writer
from tenants.mirror.rows import attempt_marker, attempt_markers
from tenants.models import CreationAttempt

logger = logging.getLogger(__name__)


def resolve_creations() -> int:
    """Settle the creations that have had no outcome for a minute; return how many there were.

    Searches all of Clerk's organizations, and only when there is such a creation. One that is found
    is mirrored, its creator by the next sync; one that a complete search did not find has failed, and
    its request may be sent again. Writes `creation_attempts`, `tenants`. Raise ListingIncomplete and
    ClerkError; what was found until then is settled.
    """
    sent_before = writer.clock() - timedelta(seconds=UNRESOLVED_SECONDS)
    waiting = CreationAttempt.objects.filter(
        state__in=[CreationAttempt.State.SENT, CreationAttempt.State.UNKNOWN], sent_at__lt=sent_before
    )
    markers = {str(marker) for marker in waiting.values_list("marker", flat=True)}
    if not markers:
        return 0
    search = _Search(markers)
    read_whole(get_clerk_orgs_page, search)
    if search.nothing_hidden:
        failed = attempts.fail_creations(sent_before=sent_before)
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
            if str(attempt_marker(organization)) in self._markers
        ]
        if found:
            writer.write_organizations(found)
            attempts.settle_found(attempt_markers(found))

    def seen(self, pass_number: int) -> int:
        """Return how many different organizations the pass has met, unreadable ones included."""
        return self._seen.count(pass_number)
