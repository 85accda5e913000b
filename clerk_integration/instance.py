"""The Clerk instance of the secret key, and its settings.

All functions raise ClerkError, and ClerkCalledInTransaction inside a database transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkProtocolError
from clerk_integration.models import LearnedInstance
from clerk_integration.wire.client import read
from clerk_integration.wire.replies import Reply

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ClerkInstance:
    """An instance; its `environment_type` is `development` or `production`."""

    id: str
    environment_type: str
    clock_offset_seconds: float | None
    """Clerk's clock minus ours, to about a second; None if the reply carried no Date."""


@dataclass(frozen=True, slots=True)
class ClerkOrganizationSettings:
    """An instance's settings for organizations; None where Clerk's reply does not say."""

    enabled: bool | None
    slug_disabled: bool | None
    creator_role: str | None
    max_allowed_memberships: int | None


def get_clerk_instance() -> ClerkInstance:
    """Fetch the instance that the secret key belongs to, and compare its clock with ours. One read."""
    reply = read(lambda clerk: clerk.instance_settings.get())
    record = _object(reply)
    offset = None if reply.date is None else (reply.date - datetime.now(UTC)).total_seconds()
    return ClerkInstance(
        id=_typed(record.get("id"), str) or "",
        environment_type=_typed(record.get("environment_type"), str) or "",
        clock_offset_seconds=offset,
    )


def known_instance_id() -> str | None:
    """Return the configured instance, else the stored one, else None. One statement at most."""
    return clerk_settings.instance_id or LearnedInstance.objects.values_list("instance_id", flat=True).first()


def get_clerk_organization_settings() -> ClerkOrganizationSettings:
    """Fetch the instance's organization settings. One read."""
    record = _object(read(lambda clerk: clerk.instance_settings.get_organization_settings()))
    return ClerkOrganizationSettings(
        enabled=_typed(record.get("enabled"), bool),
        slug_disabled=_typed(record.get("slug_disabled"), bool),
        creator_role=_typed(record.get("creator_role"), str),
        max_allowed_memberships=_typed(record.get("max_allowed_memberships"), int),
    )


def _object(reply: Reply) -> Mapping[str, Any]:
    data = reply.json()
    if not isinstance(data, Mapping):
        raise ClerkProtocolError("Clerk's reply is not a JSON object. Check that CLERK_API_URL names Clerk.")
    return data


def _typed(value: Any, kind: type[Value]) -> Value | None:
    return value if isinstance(value, kind) else None
