"""Sample events to try a receiver with, in the form of Clerk's webhook specification of 2025-04-15."""

import secrets
import time
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


def sample_event(event_type: str, *, instance_id: str, organization_id: str = "") -> Json:
    """Return an event of a type in SAMPLE_TYPES. If no id is given, the event is for a new organization.

    All times in the event are the current time, in milliseconds.
    """
    now = time.time_ns() // 1_000_000
    data = _DATA[event_type](organization_id or _new_id("org"), now)
    return {
        "object": "event",
        "type": event_type,
        "timestamp": now,
        "instance_id": instance_id,
        "event_attributes": {"http_request": {"client_ip": "", "user_agent": ""}},
        "data": data,
    }


def _organization(organization_id: str, now: int) -> Json:
    return {
        "object": "organization",
        "id": organization_id,
        "name": "Sample organization",
        "slug": f"sample-{organization_id[-8:].lower()}",
        "has_image": False,
        "members_count": 1,
        "max_allowed_memberships": 5,
        "admin_delete_enabled": True,
        "public_metadata": {},
        "private_metadata": {},
        "created_at": now,
        "updated_at": now,
    }


def _membership(organization_id: str, now: int) -> Json:
    return {
        "object": "organization_membership",
        "id": _new_id("orgmem"),
        "role": "org:member",
        "role_name": "Member",
        "permissions": [],
        "public_metadata": {},
        "private_metadata": {},
        "organization": _organization(organization_id, now),
        "public_user_data": {
            "user_id": _new_id("user"),
            "first_name": "Sample",
            "last_name": "User",
            "profile_image_url": "",
            "image_url": "",
            "has_image": False,
            "identifier": "sample@example.com",
        },
        "created_at": now,
        "updated_at": now,
    }


def _deleted_organization(organization_id: str, now: int) -> Json:
    return {"object": "organization", "id": organization_id, "deleted": True}


def _deleted_user(organization_id: str, now: int) -> Json:
    return {"object": "user", "id": _new_id("user"), "deleted": True}


def _new_id(prefix: str) -> str:
    return f"{prefix}_sample{secrets.token_hex(10)}"


_DATA: dict[str, Callable[[str, int], Json]] = {
    "organization.created": _organization,
    "organization.updated": _organization,
    "organization.deleted": _deleted_organization,
    "organizationMembership.created": _membership,
    "organizationMembership.updated": _membership,
    "organizationMembership.deleted": _membership,
    "user.deleted": _deleted_user,
}

SAMPLE_TYPES = tuple(_DATA)
