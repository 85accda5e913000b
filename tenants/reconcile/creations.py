"""Settle the creations whose reply was lost: search Clerk for an organization that carries their marker."""

import logging
from datetime import timedelta

from clerk_integration.organizations import iter_clerk_orgs
from clerk_integration.wire.deadlines import clerk_deadline
from tenants.creation.instances import require_own_instance
from tenants.creation.search import UNRESOLVED_SECONDS, is_due
from tenants.mirror import writer
from tenants.mirror.rows import attempt_marker
from tenants.models import CreationAttempt

logger = logging.getLogger(__name__)

LISTING_SECONDS = 600.0
"""Deadline of the whole search. 100,000 organizations are 200 pages."""


def resolve_creations() -> int:
    """Settle the creations that have had no outcome for a minute; return the number of these creations.

    Search all organizations in Clerk, but only if a creation is due (`creation.search.is_due`). Mirror each
    organization that is found; the next sync mirrors its creator. If a complete search does not find the
    organization, record that the creation failed; the client may then repeat its request. Write
    `creation_attempts` and `tenants`. Raise ListingIncomplete and ClerkError, for example WrongInstance; keep
    what was found before.
    """
    now = writer.clock()
    sent_before = now - timedelta(seconds=UNRESOLVED_SECONDS)
    unresolved = CreationAttempt.objects.unresolved(sent_before=sent_before)
    waiting = list(unresolved)
    if not any(is_due(attempt, now) for attempt in waiting):
        return 0
    require_own_instance()
    markers = {str(attempt.marker) for attempt in waiting}
    organizations = iter_clerk_orgs()
    with clerk_deadline(LISTING_SECONDS):
        for organization in organizations:
            if str(attempt_marker(organization)) in markers:
                writer.write_organizations([organization])
    if organizations.complete:
        failed = unresolved.update(state=CreationAttempt.State.FAILED)
        logger.info("Creations searched for: %d; found to have created nothing: %d", len(markers), failed)
    return len(markers)
