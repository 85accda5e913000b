"""The body of a webhook: Clerk's envelope around the JSON of what changed."""

from typing import Literal

from clerk_integration.sandbox.records import Change, MembershipView, Organization, User
from clerk_integration.sandbox.shapes import (
    Serializer,
    deleted_organization_json,
    deleted_user_json,
    dump,
)

TimestampUnit = Literal["ms", "s"]

TIMESTAMP_UNITS: tuple[TimestampUnit, ...] = ("ms", "s")

_ATTRIBUTES = dump({"http_request": {"client_ip": "127.0.0.1", "user_agent": "clerk-sandbox"}})


def event_text(change: Change, serializer: Serializer, instance_id: str, unit: TimestampUnit = "ms") -> str:
    """Return the body as JSON text, in the order of members that Clerk's bodies have.

    Clerk's documents say that `timestamp` is in milliseconds, the examples of its specification show
    seconds: `unit` chooses. It must be called within the change, so that the body is what was true then.
    """
    timestamp = change.timestamp if unit == "ms" else change.timestamp // 1000
    return (
        f'{{"data":{_data_text(change, serializer)},"event_attributes":{_ATTRIBUTES},'
        f'"instance_id":{dump(instance_id)},"object":"event",'
        f'"timestamp":{timestamp},"type":{dump(change.event_type)}}}'
    )


def _data_text(change: Change, serializer: Serializer) -> str:
    """What changed; of a deleted organization or user only its ids, of a deleted membership everything."""
    match change.subject:
        case MembershipView() as view:
            return serializer.membership(view)
        case Organization() as organization if change.is_deletion:
            return dump(deleted_organization_json(organization))
        case Organization() as organization:
            return serializer.organization(organization, members_count=True)
        case User() as user if change.is_deletion:
            return dump(deleted_user_json(user))
        case User() as user:
            return serializer.user(user)
