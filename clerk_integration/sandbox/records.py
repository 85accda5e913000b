"""What an instance stores: immutable records, replaced as a whole when they change; their ids and times."""

import re
import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

Metadata = Mapping[str, Any]

ADMIN_PERMISSIONS = (
    "org:sys_profile:manage",
    "org:sys_profile:delete",
    "org:sys_memberships:read",
    "org:sys_memberships:manage",
    "org:sys_domains:read",
    "org:sys_domains:manage",
)
MINIMUM_PERMISSIONS = frozenset(
    {"org:sys_memberships:manage", "org:sys_memberships:read", "org:sys_profile:delete"}
)
"""What at least one member of an organization must be allowed; Clerk demands them of a creator role."""

_LENGTH = 27
_ALPHABET = (string.ascii_letters + string.digits) * 5
_CHARACTERS = _ALPHABET[:256].encode()
"""The character of an id for every byte."""


def random_id(prefix: str) -> str:
    """Return a new id such as `org_2b...`."""
    return prefix + secrets.token_bytes(_LENGTH).translate(_CHARACTERS).decode()


def seeded_ids(seed: int) -> Callable[[str], str]:
    """Return a factory of ids that are the same for the same seed."""
    random = Random(seed)  # noqa: S311 - reproducible ids, not secrets
    return lambda prefix: prefix + random.randbytes(_LENGTH).translate(_CHARACTERS).decode()


def slugify(name: str) -> str:
    """Return a slug for a name: lower-case letters, digits and dashes; `org` for a name without any."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "org"


class MillisecondClock:
    """Milliseconds since 1970, each call at least one more than the call before.

    Stamps are never equal, so that a test can always tell which change came later. Not thread-safe.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return the current time, or the last stamp plus one when that is later."""
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        return self._last


@dataclass(frozen=True, eq=False)
class User:
    """A user of the instance; times are milliseconds since 1970."""

    id: str
    created_at: int
    updated_at: int
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    email_address: str | None = None
    external_id: str | None = None
    banned: bool = False
    create_organizations_limit: int | None = None
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Organization:
    """An organization; `public_metadata` is None after a PUT that stored JSON null, as Clerk allows."""

    id: str
    name: str
    slug: str | None
    created_at: int
    updated_at: int
    max_allowed_memberships: int
    admin_delete_enabled: bool = True
    created_by: str | None = None
    public_metadata: Metadata | None = field(default_factory=dict)
    private_metadata: Metadata | None = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Membership:
    """A user's membership of an organization."""

    id: str
    organization_id: str
    user_id: str
    role: str
    created_at: int
    updated_at: int
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)


Record = User | Organization | Membership
AnyRecord = TypeVar("AnyRecord", User, Organization, Membership)


@dataclass(frozen=True)
class Role:
    """A role of the instance; its key is such as `org:admin`."""

    key: str
    permissions: tuple[str, ...]

    @property
    def id(self) -> str:
        """The id, as Clerk's organization settings take it."""
        return f"role_{self.key.removeprefix('org:')}"

    @property
    def name(self) -> str:
        """The name to show."""
        return self.key.removeprefix("org:").replace("_", " ").title()

    @property
    def is_elevated(self) -> bool:
        """Whether a member with this role satisfies Clerk's minimum for an organization."""
        return MINIMUM_PERMISSIONS.issubset(self.permissions)


DEFAULT_ROLES: Mapping[str, Role] = {
    "org:admin": Role("org:admin", ADMIN_PERMISSIONS),
    "org:member": Role("org:member", ("org:sys_memberships:read",)),
}


@dataclass(frozen=True)
class InstanceSettings:
    """What the owner of the instance chooses; limits of 0 mean unlimited.

    Clerk allows 100 organizations per creator by default, but nothing shows that the Backend API
    applies it; here it is off until it is set.
    """

    enabled: bool = True
    max_allowed_memberships: int = 5
    admin_delete_enabled: bool = True
    creator_role: str = "org:admin"
    roles: Mapping[str, Role] = field(default_factory=lambda: DEFAULT_ROLES)
    slug_disabled: bool = False
    null_slugs: bool = False
    """Whether an organization created without a slug gets none; Clerk probably generates one."""
    membership_required: bool = False
    """Whether a session without an active organization is pending."""
    organization_quota: int = 0
    organizations_per_user: int = 0


@dataclass(frozen=True)
class Patch:
    """A change to one record's JSON that Clerk's own rules would not allow."""

    changed: Mapping[str, Any]
    removed: frozenset[str] = frozenset()
    text: str | None = None
    """What is served in the record's place, to the letter."""
