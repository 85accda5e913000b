"""What Clerk's events mean for tenants.

Payloads go through the same tolerant entities and the same writer as everything else, so an event may
come late, twice, or before the events that it follows from. A payload that cannot be read at all
raises, and stays in the inbox as failed.
"""

from datetime import UTC, datetime, timedelta

from clerk_integration.entities import ClerkMembership, ClerkOrganization, UnreadableRecord
from clerk_integration.webhooks.registry import ClerkEvent, register
from tenants.mirror import writer

MAX_CLOCK_OFFSET = timedelta(seconds=60)
"""How far Clerk's clock may be ahead of the database's."""


def organization_written(event: ClerkEvent) -> None:
    """organization.created, organization.updated: mirror it."""
    writer.write_organizations([ClerkOrganization.from_json(event.data)])


def organization_deleted(event: ClerkEvent) -> None:
    """organization.deleted: make it a tombstone, even if it was never seen."""
    writer.record_organization_deleted(_id_of(event))


def membership_written(event: ClerkEvent) -> None:
    """organizationMembership.created, .updated: mirror it, and the organization nested in it."""
    writer.write_memberships([ClerkMembership.from_json(event.data)], as_of=_moment(event))


def membership_deleted(event: ClerkEvent) -> None:
    """organizationMembership.deleted: end it. The payload is the whole membership."""
    writer.record_membership_deleted(ClerkMembership.from_json(event.data))


def user_deleted(event: ClerkEvent) -> None:
    """user.deleted: end all memberships mirrored for the user, and those whose events come later."""
    writer.record_user_deleted(_id_of(event))


def register_handlers() -> None:
    """Register with the inbox; called once, when the app is ready."""
    register("organization.created", organization_written)
    register("organization.updated", organization_written)
    register("organization.deleted", organization_deleted)
    register("organizationMembership.created", membership_written)
    register("organizationMembership.updated", membership_written)
    register("organizationMembership.deleted", membership_deleted)
    register("user.deleted", user_deleted)


def _moment(event: ClerkEvent) -> datetime | None:
    """When it happened at the latest by the database's clock, to compare with the times of listings."""
    if event.timestamp is None:
        return None
    return datetime.fromtimestamp(event.timestamp / 1000, UTC) - MAX_CLOCK_OFFSET


def _id_of(event: ClerkEvent) -> str:
    clerk_id = event.data.get("id")
    if not isinstance(clerk_id, str) or not clerk_id:
        raise UnreadableRecord(f"{event.type} without an id")
    return clerk_id
