"""Handle Clerk's events about organizations, memberships and users.

Handlers parse and write payloads like records from a fetch or a list, so an event may arrive late, twice or
out of order. A handler raises UnreadableRecord for a payload that cannot be read; the inbox then keeps the
delivery as failed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from clerk_integration.entities import ClerkMembership, ClerkOrganization, UnreadableRecord
from clerk_integration.webhooks.registry import ClerkEvent, register, register_batch
from clerk_integration.wire.ids import MAX_ID_LENGTH
from tenants.history import attributed_to
from tenants.mirror import deletions, writer
from tenants.models import TenantHistory, Tombstone

MAX_CLOCK_OFFSET = timedelta(seconds=60)
"""The maximum by which Clerk's clock may be ahead of the database's clock."""

_NEVER = datetime.min.replace(tzinfo=UTC)


@attributed_to(TenantHistory.Source.WEBHOOK)
def records_written(events: Sequence[ClerkEvent]) -> None:
    """Mirror organizations, and memberships with their organizations: `.created` and `.updated` of both."""
    organizations, memberships = [], []
    as_of: dict[str, datetime | None] = {}
    for event in events:
        if event.type.startswith("organization."):
            organizations.append(ClerkOrganization.from_json(event.data))
        else:
            membership = ClerkMembership.from_json(event.data)
            memberships.append(membership)
            as_of[membership.id] = _later(as_of.get(membership.id, _NEVER), _happened_at(event))
    writer.write_events(organizations, memberships, as_of=as_of)


@attributed_to(TenantHistory.Source.WEBHOOK)
def organization_deleted(event: ClerkEvent) -> None:
    """Record the organization as deleted, even if it has no row here: organization.deleted."""
    deletions.record_organization_deleted(_id_of(event), source=Tombstone.Source.EVENT)


@attributed_to(TenantHistory.Source.WEBHOOK)
def membership_deleted(event: ClerkEvent) -> None:
    """End the membership: organizationMembership.deleted."""
    try:
        membership = ClerkMembership.from_json(event.data)
    except UnreadableRecord:
        membership = None  # The membership's id is enough.
    deletions.record_membership_deleted(_id_of(event), membership)


@attributed_to(TenantHistory.Source.WEBHOOK)
def user_deleted(event: ClerkEvent) -> None:
    """End the user's mirrored memberships, and ignore later events about them: user.deleted."""
    deletions.record_user_deleted(_id_of(event))


def register_handlers() -> None:
    """Register the handlers with the inbox. Call it once, when the app is ready."""
    register_batch("organization.created", records_written)
    register_batch("organization.updated", records_written)
    register("organization.deleted", organization_deleted)
    register_batch("organizationMembership.created", records_written)
    register_batch("organizationMembership.updated", records_written)
    register("organizationMembership.deleted", membership_deleted)
    register("user.deleted", user_deleted)


def _happened_at(event: ClerkEvent) -> datetime | None:
    """Return the earliest possible time of the event by the database's clock; None if unknown."""
    if event.timestamp is None:
        return None
    return datetime.fromtimestamp(event.timestamp / 1000, UTC) - MAX_CLOCK_OFFSET


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the later of two times; None, an unknown time, counts as now."""
    return None if one is None or other is None else max(one, other)


def _id_of(event: ClerkEvent) -> str:
    clerk_id = event.data.get("id")
    if not isinstance(clerk_id, str) or not 0 < len(clerk_id) <= MAX_ID_LENGTH:
        raise UnreadableRecord(f"{event.type} without an id of 1 to {MAX_ID_LENGTH} characters")
    return clerk_id
