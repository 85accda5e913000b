"""Clerk's records as we use them, and the only mapping from Clerk's JSON to objects.

The mapping is tolerant on purpose: the official SDK's models refuse a whole page of 500 records for
one null slug. Here a record needs only what nothing can be done without (its id; for a membership
also its user, role and organization), and those must fit into their columns as they are: a name
may lose a NUL character, but an id or a role would be another one without it. Anything else that
is missing or odd becomes its empty value.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clerk_integration.wire import ids

MARKER_KEY = "django_clerk_tenants"
"""Key of our marker in an organization's private metadata."""

ROLE_PREFIX = "org:"

MAX_KEY_LENGTH = 255
"""Characters that the columns for Clerk's ids, roles and slugs can hold or index."""

MAX_SLUG_LENGTH = 512
"""Characters of a slug that fit into an index entry; Clerk's own limit is not known."""

LARGEST_STAMP = 2**63 - 1


class UnreadableRecord(ValueError):
    """A record without the fields that nothing can be done without."""


@dataclass(frozen=True, slots=True)
class ClerkOrganization:
    """An organization; times are integer milliseconds since 1970, as Clerk sends them."""

    id: str
    name: str
    slug: str | None = None
    image_url: str = ""
    public_metadata: Mapping[str, Any] = field(default_factory=dict)
    created_by: str | None = None
    created_at: int | None = None
    updated_at: int | None = None
    marker: Mapping[str, Any] | None = None
    """What we wrote ourselves into private_metadata; the rest of it is never kept."""

    @classmethod
    def from_json(cls, data: Any) -> "ClerkOrganization":
        """Read one organization; raise UnreadableRecord when it has no id of Clerk's form."""
        record = _mapping(data)
        return cls(
            id=_id(record.get("id"), "id", ids.ORGANIZATION),
            name=_text(record.get("name")),
            slug=_slug(record.get("slug")),
            image_url=_text(record.get("image_url")),
            public_metadata=clean(_mapping(record.get("public_metadata"))),
            created_by=record["created_by"] if ids.is_id(record.get("created_by"), ids.USER) else None,
            created_at=_milliseconds(record.get("created_at")),
            updated_at=_milliseconds(record.get("updated_at")),
            marker=clean(_mapping(_mapping(record.get("private_metadata")).get(MARKER_KEY))) or None,
        )


@dataclass(frozen=True, slots=True)
class ClerkMembership:
    """A user's membership of an organization, with that organization; times as above."""

    id: str
    user_id: str
    role: str
    organization: ClerkOrganization
    created_at: int | None = None
    updated_at: int | None = None

    @classmethod
    def from_json(cls, data: Any, *, user_id: str | None = None) -> "ClerkMembership":
        """Read one membership.

        `user_id` stands in for a missing `public_user_data` where the listing itself was for one
        user. Raise UnreadableRecord without an id, a user, a role or an organization, and for an id that
        is none of Clerk's form.
        """
        record = _mapping(data)
        return cls(
            id=_required(record, "id"),
            user_id=_id(
                _mapping(record.get("public_user_data")).get("user_id") or user_id or record.get("user_id"),
                "user_id",
                ids.USER,
            ),
            role=_fitting(normalise_role(_required(record, "role")), "role"),
            organization=ClerkOrganization.from_json(record.get("organization")),
            created_at=_milliseconds(record.get("created_at")),
            updated_at=_milliseconds(record.get("updated_at")),
        )


def normalise_role(role: str) -> str:
    """Spell a role as the Backend API does (`org:admin`); v2 session tokens drop the prefix."""
    return role if role.startswith(ROLE_PREFIX) else f"{ROLE_PREFIX}{role}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _id(value: Any, key: str, prefix: str) -> str:
    """An id as Clerk forms them; what has another can never be asked for by it, and so never be retired."""
    if not isinstance(value, str) or not ids.is_id(value, prefix):
        raise UnreadableRecord(
            f"a record without a usable {key!r}, which starts with {prefix!r} and goes on with letters, "
            "digits, '-' and '_'"
        )
    return value


def _required(record: Mapping[str, Any], key: str) -> str:
    return _fitting(record.get(key), key)


def _fitting(value: Any, key: str) -> str:
    text = _text(value)
    if text != value or not 0 < len(text) <= MAX_KEY_LENGTH:
        raise UnreadableRecord(f"a record without a usable {key!r}")
    return text


def _text(value: Any) -> str:
    """A string that PostgreSQL can hold: no NUL, no lone surrogate."""
    if not isinstance(value, str):
        return ""
    return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _slug(value: Any) -> str | None:
    """A slug short enough for an index; slugs may be disabled in an instance, and are null then."""
    slug = _text(value)
    return slug if 0 < len(slug) <= MAX_SLUG_LENGTH else None


def _milliseconds(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        stamp = int(value)
    except (ValueError, OverflowError):
        return None
    return stamp if 0 <= stamp <= LARGEST_STAMP else None


def clean(value: Any) -> Any:
    """Return the same JSON as PostgreSQL can hold it.

    Strings and keys lose NUL characters and lone surrogates; NaN and infinity become None.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
