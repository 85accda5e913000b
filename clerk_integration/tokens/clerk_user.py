"""The user of a session token or an API key, as `request.user`."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ClerkUser:
    """The user of a session token. It holds the token's claims, and nothing else.

    It has no row and no Django permissions. Its memberships decide what the user may do. `pk` is Clerk's user
    id, so that throttles and logs distinguish users. The `organization_*` attributes describe the active
    organization of the session, if there is one. Several requests may share one object.
    """

    clerk_user_id: str
    session_id: str
    organization_id: str | None = None
    organization_role: str | None = None
    organization_slug: str | None = None
    organization_permissions: frozenset[str] = frozenset()
    is_pending: bool = False
    api_key_id: str | None = None
    issued_at: int = field(default=0, compare=False)

    is_authenticated: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False
    is_active: ClassVar[bool] = True
    is_staff: ClassVar[bool] = False
    is_superuser: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.clerk_user_id

    @property
    def pk(self) -> str:
        """Clerk's user id."""
        return self.clerk_user_id

    @property
    def id(self) -> str:
        """Clerk's user id."""
        return self.clerk_user_id

    def get_username(self) -> str:
        """Return Clerk's user id."""
        return self.clerk_user_id

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Return False: Django's permissions are for staff with a Django account."""
        return False

    def has_perms(self, perm_list: object, obj: object = None) -> bool:
        """Return False, as `has_perm` does."""
        return False

    def has_module_perms(self, app_label: str) -> bool:
        """Return False, as `has_perm` does."""
        return False
