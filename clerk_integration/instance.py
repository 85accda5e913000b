"""The Clerk instance behind the secret key, and what it allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from clerk_integration.exceptions import ClerkProtocolError
from clerk_integration.wire.client import read, read_reply

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ClerkInstance:
    """An instance: `environment_type` is `development` or `production`, as Clerk spells it."""

    id: str
    environment_type: str
    clock_offset_seconds: float | None
    """Clerk's clock minus ours, to about a second; None when the answer carried no Date."""


@dataclass(frozen=True, slots=True)
class ClerkOrganizationSettings:
    """What an instance allows of organizations; None where Clerk's answer does not say."""

    enabled: bool | None
    slug_disabled: bool | None
    creator_role: str | None
    max_allowed_memberships: int | None


def get_clerk_instance() -> ClerkInstance:
    """Fetch the instance that the secret key belongs to, and compare its clock with ours.

    One read. Raises ClerkError and ClerkCalledInTransaction.
    """
    reply = read_reply(lambda clerk: clerk.instance_settings.get())
    record = _object(reply.json())
    offset = None if reply.date is None else (reply.date - datetime.now(UTC)).total_seconds()
    return ClerkInstance(
        id=_typed(record.get("id"), str) or "",
        environment_type=_typed(record.get("environment_type"), str) or "",
        clock_offset_seconds=offset,
    )


def get_clerk_organization_settings() -> ClerkOrganizationSettings:
    """Fetch the instance's organization settings. One read.

    Raises ClerkError and ClerkCalledInTransaction.
    """
    record = _object(read(lambda clerk: clerk.instance_settings.get_organization_settings()))
    return ClerkOrganizationSettings(
        enabled=_typed(record.get("enabled"), bool),
        slug_disabled=_typed(record.get("slug_disabled"), bool),
        creator_role=_typed(record.get("creator_role"), str),
        max_allowed_memberships=_typed(record.get("max_allowed_memberships"), int),
    )


def _object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ClerkProtocolError("Clerk's answer is no JSON object. Check that CLERK_API_URL names Clerk.")
    return data


def _typed(value: Any, kind: type[Value]) -> Value | None:
    return value if isinstance(value, kind) else None
