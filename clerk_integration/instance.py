"""The Clerk instance of the secret key, its settings, and the instance that this database belongs to.

The first successful call to Clerk's API learns the instance and stores it. No data from Clerk is written
before its instance is known. A key, a setting or an event of another instance is refused until an operator
adopts this other instance (`manage.py check_clerk --adopt-instance`).

All functions raise ClerkError, and ClerkCalledInTransaction inside a database transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db.models.functions import Now

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkProtocolError, WrongInstance
from clerk_integration.models import LearnedInstance
from clerk_integration.wire.client import read
from clerk_integration.wire.replies import Reply

Value = TypeVar("Value")

ADOPT = (
    "Nothing was changed. Use the key and the settings of that instance; to use the other instance from now"
    " on, run `manage.py check_clerk --adopt-instance`."
)

_instances: dict[tuple[str, str], str] = {}
"""Instance ids of the keys that this process has used, by key and API URL."""


@dataclass(frozen=True, slots=True)
class ClerkInstance:
    """A Clerk instance. `environment_type` is `development` or `production`."""

    id: str
    environment_type: str
    clock_offset_seconds: float | None
    """Clerk's clock minus ours, to about a second; None if the reply carried no Date."""


@dataclass(frozen=True, slots=True)
class ClerkOrganizationSettings:
    """An instance's settings for organizations; None for each setting that Clerk's reply lacks."""

    enabled: bool | None
    slug_disabled: bool | None
    creator_role: str | None
    max_allowed_memberships: int | None


def get_clerk_instance() -> ClerkInstance:
    """Fetch the instance of the secret key, and compare Clerk's clock with ours. Sends one read."""
    reply = read(lambda clerk: clerk.instance_settings.get())
    record = _object(reply)
    offset = None if reply.date is None else (reply.date - datetime.now(UTC)).total_seconds()
    return ClerkInstance(
        id=_typed(record.get("id"), str) or "",
        environment_type=_typed(record.get("environment_type"), str) or "",
        clock_offset_seconds=offset,
    )


def known_instance_id() -> str | None:
    """Return the stored instance id, else the configured one, else None. One SQL statement."""
    return stored_instance_id() or clerk_settings.instance_id or None


def stored_instance_id() -> str | None:
    """Return the id of this database's Clerk instance, or None if none is stored yet. One SQL statement."""
    return LearnedInstance.objects.values_list("instance_id", flat=True).first()


def refuse_other_instance(stored: str | None, *, actual: str | None = None) -> None:
    """Raise WrongInstance if the key or CLERK_INSTANCE_ID belongs to another instance than `stored`.

    If `stored` is None, raise WrongInstance if the key and CLERK_INSTANCE_ID belong to different instances.
    `actual` is the key's instance id, if the caller has just fetched it. Without `actual`, one read is sent
    when this process uses the key for the first time. No SQL statement.
    """
    configured = clerk_settings.instance_id
    if stored and configured not in ("", stored):
        raise WrongInstance(
            f"CLERK_INSTANCE_ID is {configured}, and this database belongs to the Clerk instance {stored}."
            f" {ADOPT}"
        )
    if actual is None:
        actual = instance_of_key()
    expected = stored or configured
    if expected and actual != expected:
        source = "this database belongs to the Clerk instance" if stored else "CLERK_INSTANCE_ID is"
        raise WrongInstance(
            f"CLERK_SECRET_KEY belongs to the Clerk instance {actual or 'without an id'}, and {source}"
            f" {expected}. {ADOPT}"
        )


def instance_of_key() -> str:
    """Return the instance id of the key. Sends one read when this process uses the key for the first time."""
    key = clerk_settings.secret_key, clerk_settings.api_url
    if key not in _instances:
        _instances[key] = get_clerk_instance().id
    return _instances[key]


def store_instance(instance_id: str) -> None:
    """Store the instance of this database, unless one is stored; raise WrongInstance if another is stored."""
    if not instance_id:
        return
    LearnedInstance.objects.bulk_create([LearnedInstance(instance_id=instance_id)], ignore_conflicts=True)
    refuse_other_instance(stored_instance_id(), actual=instance_id)


def adopt_instance(instance_id: str) -> str | None:
    """Make this database belong to the instance from now on; return the previously stored instance id.

    Organizations that were mirrored before are no longer expected in Clerk. Writes `LearnedInstance`.
    """
    stored = stored_instance_id()
    values = {"instance_id": instance_id, "learned_at": Now(), "adopted_at": Now()}
    LearnedInstance.objects.update_or_create(defaults=values)
    return stored


def get_clerk_organization_settings() -> ClerkOrganizationSettings:
    """Fetch the instance's organization settings. Sends one read."""
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
