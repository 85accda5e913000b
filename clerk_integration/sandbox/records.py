"""What the sandbox stores: immutable records, replaced as a whole when they change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Metadata = Mapping[str, Any]

ADMIN_PERMISSIONS = (
    "org:sys_profile:manage",
    "org:sys_profile:delete",
    "org:sys_memberships:read",
    "org:sys_memberships:manage",
    "org:sys_domains:read",
    "org:sys_domains:manage",
)
MEMBER_PERMISSIONS = ("org:sys_memberships:read",)

MINIMUM_PERMISSIONS = frozenset(
    {"org:sys_memberships:manage", "org:sys_memberships:read", "org:sys_profile:delete"}
)
"""What at least one member of an organization must be allowed; Clerk demands them of a creator role."""


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


@dataclass(frozen=True, eq=False, slots=True)
class MembershipView:
    """A membership with the two records that Clerk nests in it."""

    membership: Membership
    organization: Organization
    user: User


@dataclass(frozen=True)
class Role:
    """A role of the instance: `key` as in `org:admin`."""

    id: str
    key: str
    name: str
    permissions: tuple[str, ...]

    @property
    def is_elevated(self) -> bool:
        """Whether a member with this role satisfies Clerk's minimum for an organization."""
        return MINIMUM_PERMISSIONS.issubset(self.permissions)


DEFAULT_ROLES: Mapping[str, Role] = {
    "org:admin": Role("role_admin", "org:admin", "Admin", ADMIN_PERMISSIONS),
    "org:member": Role("role_member", "org:member", "Member", MEMBER_PERMISSIONS),
}


@dataclass(frozen=True)
class InstanceSettings:
    """What the owner of the instance chooses; caps of 0 mean unlimited.

    Clerk allows 100 organizations per creator by default, but nothing shows that the Backend API
    applies it; here it is off until it is set.
    """

    enabled: bool = True
    max_allowed_memberships: int = 5
    admin_delete_enabled: bool = True
    domains_enabled: bool = False
    domains_enrollment_modes: tuple[str, ...] = ()
    domains_default_role: str = "org:member"
    creator_role: str = "org:admin"
    roles: Mapping[str, Role] = field(default_factory=lambda: DEFAULT_ROLES)
    slug_disabled: bool = False
    null_slugs: bool = False
    """Whether an organization created without a slug gets none; Clerk is said to generate one."""
    membership_required: bool = False
    """Whether a session without an active organization is pending."""
    organization_quota: int = 0
    organizations_per_user: int = 0


@dataclass(frozen=True)
class RawPatch:
    """A change to one record's JSON that Clerk's own rules would not allow."""

    changed: Mapping[str, Any]
    removed: frozenset[str]


@dataclass(frozen=True)
class Change:
    """One committed change, named as Clerk names its event (`organization.updated`)."""

    event_type: str
    subject: User | Organization | MembershipView
    timestamp: int = 0
    """When it happened, in milliseconds; of a record that was created or changed its `updated_at`."""
    cascaded: bool = False
    """Whether it came with the deletion of an organization or a user."""

    @property
    def is_deletion(self) -> bool:
        """Whether the subject is gone."""
        return self.event_type.endswith(".deleted")


SlugMode = Literal["enabled", "disabled"]
