"""The immutable records of an instance, their ids and times. A change replaces the whole record."""

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
"""At least one member of an organization must have these permissions, and so must the creator role."""

_LENGTH = 27
_ALPHABET = (string.ascii_letters + string.digits) * 5
_CHARACTERS = _ALPHABET[:256].encode()
"""Maps each byte to a character for an id."""


def random_id(prefix: str) -> str:
    """Return a new id such as `org_2b...`."""
    return prefix + secrets.token_bytes(_LENGTH).translate(_CHARACTERS).decode()


def seeded_ids(seed: int) -> Callable[[str], str]:
    """Return a function that creates ids. The same seed gives the same sequence of ids."""
    random = Random(seed)  # noqa: S311 - reproducible ids, not secrets
    return lambda prefix: prefix + random.randbytes(_LENGTH).translate(_CHARACTERS).decode()


def slugify(name: str) -> str:
    """Return a slug of lower-case letters, digits and dashes; return `org` if nothing of the name is left."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "org"


class MillisecondClock:
    """A clock in milliseconds since 1970 that never returns the same time twice.

    Therefore a test can always order two changes by time. Not thread-safe.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return the current time, or the last returned time plus one if the sum is later."""
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        return self._last


@dataclass(frozen=True, eq=False)
class User:
    """A user of the instance. Times are in milliseconds since 1970."""

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
    """An organization. As in Clerk, a PUT may store JSON null: `public_metadata` is None then."""

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
    """A role of the instance. Its key is, for example, `org:admin`."""

    key: str
    permissions: tuple[str, ...]

    @property
    def id(self) -> str:
        """The id of the role for Clerk's organization settings."""
        return f"role_{self.key.removeprefix('org:')}"

    @property
    def name(self) -> str:
        """The display name."""
        return self.key.removeprefix("org:").replace("_", " ").title()

    @property
    def is_elevated(self) -> bool:
        """Whether the role has all MINIMUM_PERMISSIONS."""
        return MINIMUM_PERMISSIONS.issubset(self.permissions)


DEFAULT_ROLES: Mapping[str, Role] = {
    "org:admin": Role("org:admin", ADMIN_PERMISSIONS),
    "org:member": Role("org:member", ("org:sys_memberships:read",)),
}


@dataclass(frozen=True)
class InstanceSettings:
    """The settings of an instance. A limit of 0 means unlimited.

    By default, Clerk allows a creator 100 organizations. Clerk does not document whether this limit applies
    to the Backend API. The sandbox has no limit by default.
    """

    enabled: bool = True
    max_allowed_memberships: int = 5
    admin_delete_enabled: bool = True
    creator_role: str = "org:admin"
    roles: Mapping[str, Role] = field(default_factory=lambda: DEFAULT_ROLES)
    slug_disabled: bool = False
    null_slugs: bool = False
    """With slugs disabled, whether a new organization gets no slug. Clerk probably generates a slug."""
    membership_required: bool = False
    """Whether the status of a session without an active organization is `pending`."""
    organization_quota: int = 0
    organizations_per_user: int = 0


@dataclass(frozen=True)
class Patch:
    """A change to the JSON of one record. The JSON need not follow Clerk's rules."""

    changed: Mapping[str, Any]
    removed: frozenset[str] = frozenset()
    text: str | None = None
    """This text replaces the JSON of the record, byte for byte."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of a machine client, which acts for `subject`. Times are in milliseconds."""

    id: str
    secret: str
    name: str
    subject: str
    created_at: int
    updated_at: int
    type: str = "api_key"
    description: str | None = None
    claims: Any = None
    scopes: tuple[str, ...] = ()
    created_by: str | None = None
    expiration: int | None = None
    revoked: bool = False
    revocation_reason: str | None = None
