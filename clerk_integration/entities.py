"""Clerk's records, and the only mapping from Clerk's JSON to objects.

The mapping is tolerant. The official SDK's models refuse a whole page of 500 records for one null slug. Here
a record needs only its id; a membership also needs its user, role and organization. These required values
must fit into their columns unchanged. A name may lose a NUL character, but an id or a role without its NUL
would be a different id or role. Every other missing or malformed field becomes its empty value.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from clerk_integration.wire import ids

MARKER_KEY = "django_clerk_tenants"
"""Key of our marker in an organization's private metadata."""

ROLE_PREFIX = "org:"

MAX_KEY_LENGTH = 255
"""Characters that the columns for Clerk's ids and roles hold."""

MAX_SLUG_LENGTH = 512
"""Characters of a slug that fit into an index entry; Clerk's own limit is not known."""

MAX_DEPTH = 200
"""Levels of metadata that are kept."""

LARGEST_STAMP = 2**63 - 1
FIRST_STAMP = 946_684_800_000
"""The year 2000 in milliseconds."""

END_OF_STAMPS = 253_402_300_800_000
"""The year 10000 in milliseconds, which no `datetime` can hold."""

logger = logging.getLogger(__name__)


class UnreadableRecord(ValueError):
    """The record lacks a required field."""


@dataclass(frozen=True, slots=True)
class ClerkOrganization:
    """An organization. Times are integer milliseconds since 1970, as Clerk sends them."""

    id: str
    name: str
    slug: str | None = None
    image_url: str = ""
    public_metadata: Mapping[str, Any] = field(default_factory=dict)
    created_by: str | None = None
    created_at: int | None = None
    updated_at: int | None = None
    marker: Mapping[str, Any] | None = None
    """Our own entry in private_metadata; the rest of private_metadata is never kept."""

    @classmethod
    def from_json(cls, data: Any) -> "ClerkOrganization":
        """Read one organization; raise UnreadableRecord if its id is missing or malformed."""
        record = _mapping(data)
        org_id = _id(record.get("id"), "id", ids.ORGANIZATION)
        return cls(
            id=org_id,
            name=storable_text(record.get("name")),
            slug=_slug(record.get("slug")),
            image_url=storable_text(record.get("image_url")),
            public_metadata=_metadata(record.get("public_metadata"), org_id),
            created_by=record["created_by"] if ids.is_id(record.get("created_by"), ids.USER) else None,
            created_at=_milliseconds(record.get("created_at")),
            updated_at=_milliseconds(record.get("updated_at")),
            marker=clean(_mapping(_mapping(record.get("private_metadata")).get(MARKER_KEY))) or None,
        )


@dataclass(frozen=True, slots=True)
class ClerkMembership:
    """A user's membership of an organization, including the organization. Times as in ClerkOrganization."""

    id: str
    user_id: str
    role: str
    organization: ClerkOrganization
    created_at: int | None = None
    updated_at: int | None = None

    @classmethod
    def from_json(
        cls,
        data: Any,
        *,
        user_id: str | None = None,
        read_organization: Callable[[Any], ClerkOrganization] = ClerkOrganization.from_json,
    ) -> "ClerkMembership":
        """Read one membership. `user_id` is the user if the record has no `public_user_data`.

        Raise UnreadableRecord if the id, user, role or organization is missing or malformed.
        """
        record = _mapping(data)
        return cls(
            id=_key(record.get("id"), "id"),
            user_id=_id(
                _mapping(record.get("public_user_data")).get("user_id") or user_id or record.get("user_id"),
                "user_id",
                ids.USER,
            ),
            role=_key(normalise_role(_key(record.get("role"), "role")), "role"),
            organization=read_organization(record.get("organization")),
            created_at=_milliseconds(record.get("created_at")),
            updated_at=_milliseconds(record.get("updated_at")),
        )


class NestedOrganizations:
    """Reads the organizations nested in the memberships of a listing, each organization once."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[Mapping[str, Any], ClerkOrganization]] = {}

    def read(self, data: Any) -> ClerkOrganization:
        """Return what `ClerkOrganization.from_json` returns; reuse it if the same JSON was read before."""
        clerk_org_id = _mapping(data).get("id")
        known = self._read.get(clerk_org_id) if isinstance(clerk_org_id, str) else None
        if known is not None and known[0] == data:
            return known[1]
        organization = ClerkOrganization.from_json(data)
        self._read[organization.id] = data, organization
        return organization


def normalise_role(role: str) -> str:
    """Return the role in the Backend API's form (`org:admin`); version 2 session tokens omit `org:`."""
    return role if role.startswith(ROLE_PREFIX) else f"{ROLE_PREFIX}{role}"


def record_id(data: Any) -> str | None:
    """Return the id of an otherwise unreadable record; None if there is no id in Clerk's form."""
    value = _mapping(data).get("id")
    return value if isinstance(value, str) and ids.is_any_id(value) else None


def _metadata(value: Any, org_id: str) -> Mapping[str, Any]:
    given = _mapping(value)
    if not given:
        return given
    stored = clean(given)
    if stored != given:
        logger.warning(
            "Public metadata of %s holds values that cannot be stored (a number of more than 4,300 digits,"
            " more than %d levels, a NUL character or the like). They are left out; the rest is kept.",
            org_id,
            MAX_DEPTH,
        )
    return cast("Mapping[str, Any]", stored)


def _mapping(value: Any) -> Mapping[str, Any]:
    # `dict` first: the test for an abstract class takes ten times as long.
    return value if isinstance(value, (dict, Mapping)) else {}


def _id(value: Any, key: str, prefix: str) -> str:
    """Return the id; raise UnreadableRecord if it does not have the form of a Clerk id.

    With a malformed id, no later request could ask Clerk whether the record still exists.
    """
    if not isinstance(value, str) or not ids.is_id(value, prefix):
        raise UnreadableRecord(f"{key!r} is not {prefix!r} followed by letters, digits, '-' and '_'")
    return value


def _key(value: Any, key: str) -> str:
    text = storable_text(value)
    if text != value or not 0 < len(text) <= MAX_KEY_LENGTH:
        raise UnreadableRecord(f"{key!r} is not a text of 1 to {MAX_KEY_LENGTH} characters")
    return text


def storable_text(value: Any) -> str:
    """Return the string without NUL and lone surrogates, which PostgreSQL cannot store."""
    if not isinstance(value, str):
        return ""
    if value.isascii() and "\x00" not in value:
        return value
    return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _slug(value: Any) -> str | None:
    """Return the slug if it fits into an index, else None. An instance may have slugs disabled."""
    slug = storable_text(value)
    return slug if 0 < len(slug) <= MAX_SLUG_LENGTH else None


def _milliseconds(value: Any) -> int | None:
    """Return a timestamp between the years 2000 and 9999; return None for every other value."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        stamp = int(value)
    except (ValueError, OverflowError):
        return None
    return stamp if FIRST_STAMP <= stamp < END_OF_STAMPS else None


def clean(value: Any, depth: int = 0) -> Any:
    """Return the JSON in a form that PostgreSQL can store.

    Strings and keys lose NUL characters and lone surrogates. NaN, infinity and objects or lists nested deeper
    than MAX_DEPTH levels become None.
    """
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping | list) and depth >= MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {storable_text(key): clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item, depth + 1) for item in value]
    return value
