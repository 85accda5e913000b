"""The records of one Clerk instance, Clerk's rules for the records, and all changes. Independent of HTTP.

Not thread-safe. The caller holds a lock for a whole request, so that no other request changes a record
between a check and a change. `_commit` makes every change.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.records import (
    AnyRecord,
    ApiKey,
    InstanceSettings,
    Membership,
    MillisecondClock,
    Organization,
    Patch,
    Record,
    Role,
    User,
    random_id,
    slugify,
)

T = TypeVar("T")

OnChange = Callable[[str, Record, int, bool], None]
"""Called with Clerk's event type, the record, the time in milliseconds, and True if a membership is deleted
because its organization or user is deleted."""


def _found(record: T | None, detail: str) -> T:
    if record is None:
        raise ApiError("resource_not_found", detail)
    return record


class Store:
    """The users, organizations, memberships and settings of an instance.

    The store calls `new_id` for the id of a new record, and `on_change` during every change.
    """

    def __init__(self, clock: MillisecondClock) -> None:
        self.clock = clock
        self.new_id: Callable[[str], str] = random_id
        self.on_change: OnChange = lambda event_type, record, timestamp, cascaded: None
        self.settings = InstanceSettings()
        self.patches: dict[str, Patch] = {}
        self.users: dict[str, User] = {}
        self.organizations: dict[str, Organization] = {}
        self.id_by_slug: dict[str | None, str] = {}
        self.members: dict[str, dict[str, Membership]] = {}
        """Memberships by organization id, then by user id."""
        self.memberships: dict[str, dict[str, Membership]] = {}
        """Memberships by user id, then by organization id."""
        self.api_keys: dict[str, ApiKey] = {}
        self._derived: dict[str, Any] = {}

    # --- reading -----------------------------------------------------------------------------

    def user(self, user_id: str) -> User:
        """Return the user; raise `resource_not_found`."""
        return _found(self.users.get(user_id), f"No user was found with id {user_id}.")

    def organization(self, organization_id: str) -> Organization:
        """Return the organization; raise `resource_not_found`."""
        self.require_organizations_enabled()
        detail = f"No organization was found with id {organization_id}."
        return _found(self.organizations.get(organization_id), detail)

    def membership(self, organization_id: str, user_id: str) -> Membership:
        """Return one membership; raise `resource_not_found`."""
        self.organization(organization_id)
        detail = f"User {user_id} is not a member of organization {organization_id}."
        return _found(self.members.get(organization_id, {}).get(user_id), detail)

    def role(self, key: str) -> Role:
        """Return the role; raise `resource_not_found`."""
        return _found(self.settings.roles.get(key), f"No role was found with key {key}.")

    def all_memberships(self) -> list[Membership]:
        """Return every membership of the instance."""
        return [row for rows in self.members.values() for row in rows.values()]

    def members_count(self, organization_id: str) -> int:
        """Return the number of members of the organization."""
        return len(self.members.get(organization_id, ()))

    def derived(self, name: str, compute: Callable[[], T]) -> T:
        """Return the result of `compute`. Cache the result under `name` until a record changes."""
        if name not in self._derived:
            self._derived[name] = compute()
        value: T = self._derived[name]
        return value

    def require_organizations_enabled(self) -> None:
        """Raise `organization_not_enabled_in_instance` if organizations are disabled."""
        if not self.settings.enabled:
            raise ApiError("organization_not_enabled_in_instance")

    # --- users -------------------------------------------------------------------------------

    def create_user(self, /, **fields: Any) -> User:
        """Store a user with the given `id` or a new id; raise `form_identifier_exists`."""
        user_id = fields.pop("id", None) or self.new_id("user_")
        if user_id in self.users:
            raise ApiError("form_identifier_exists", f"User {user_id} exists already.", param="id")
        now = self.clock.next()
        return self._commit("user.created", User(user_id, created_at=now, updated_at=now, **fields))

    def update_user(self, user_id: str, changes: Mapping[str, Any]) -> User:
        """Change some fields of a user."""
        user = self.user(user_id)
        return self._commit("user.updated", replace(user, **changes, updated_at=self.clock.next()))

    def delete_user(self, user_id: str) -> User:
        """Remove a user and all their memberships, even if an organization then has no admin."""
        user = self.user(user_id)
        for membership in list(self.memberships.get(user_id, {}).values()):
            self._commit("organizationMembership.deleted", membership, cascaded=True)
        return self._commit("user.deleted", user)

    # --- organizations -----------------------------------------------------------------------

    def create_organization(self, /, **fields: Any) -> Organization:
        """Store an organization and, if a creator is given, a membership with the creator role.

        Raise Clerk's errors: slugs are disabled, the slug exists, the creator is unknown, a quota is reached.
        """
        self.require_organizations_enabled()
        slug, created_by = fields.pop("slug", None), fields.get("created_by")
        self._require_slug_allowed(slug)
        self._require_room_for_organization(created_by)
        self._require_slug_free(slug)
        now = self.clock.next()
        defaults = {
            "created_at": now,
            "max_allowed_memberships": self.settings.max_allowed_memberships,
            "admin_delete_enabled": self.settings.admin_delete_enabled,
        }
        organization = Organization(
            id=self.new_id("org_"),
            slug=slug or self._generated_slug(fields["name"], now),
            updated_at=now,
            **(defaults | fields),
        )
        self._commit("organization.created", organization)
        if created_by is not None:
            self._add_member(organization, created_by, self.settings.creator_role)
        return organization

    def update_organization(self, organization_id: str, changes: Mapping[str, Any]) -> Organization:
        """Change some fields of an organization; raise Clerk's errors for slugs."""
        organization = self.organization(organization_id)
        slug = changes.get("slug")
        self._require_slug_allowed(slug)
        if slug != organization.slug:
            self._require_slug_free(slug)
        updated = replace(organization, **changes, updated_at=self.clock.next())
        return self._commit("organization.updated", updated)

    def delete_organization(self, organization_id: str) -> Organization:
        """Remove an organization and all its memberships."""
        organization = self.organization(organization_id)
        for membership in list(self.members.get(organization_id, {}).values()):
            self._commit("organizationMembership.deleted", membership, cascaded=True)
        return self._commit("organization.deleted", organization)

    # --- memberships -------------------------------------------------------------------------

    def create_membership(self, organization_id: str, user_id: str, role: str, **fields: Any) -> Membership:
        """Add a member; raise ApiError if the user is a member already or the quota is reached."""
        organization = self.organization(organization_id)
        self.user(user_id)
        self.role(role)
        if user_id in self.members.get(organization_id, {}):
            raise ApiError("already_a_member_in_organization", f"User {user_id} is a member already.")
        quota, count = organization.max_allowed_memberships, self.members_count(organization_id)
        if quota and count >= quota:
            detail = f"The organization may have {quota} members and has {count}."
            raise ApiError("organization_membership_quota_exceeded", detail)
        return self._add_member(organization, user_id, role, **fields)

    def update_membership(self, organization_id: str, user_id: str, changes: Mapping[str, Any]) -> Membership:
        """Change the role or metadata of a membership; raise ApiError if the last admin would be demoted."""
        membership = self.membership(organization_id, user_id)
        if not self.role(changes.get("role", membership.role)).is_elevated:
            self._require_other_admin(membership)
        updated = replace(membership, **changes, updated_at=self.clock.next())
        return self._commit("organizationMembership.updated", updated)

    def delete_membership(self, organization_id: str, user_id: str) -> Membership:
        """Remove a membership; raise ApiError if the member is the last admin."""
        membership = self.membership(organization_id, user_id)
        self._require_other_admin(membership)
        return self._commit("organizationMembership.deleted", membership)

    # --- Clerk's rules -----------------------------------------------------------------------

    def _require_slug_allowed(self, slug: str | None) -> None:
        if slug is not None and self.settings.slug_disabled:
            raise ApiError("organization_slugs_disabled")

    def _require_slug_free(self, slug: str | None) -> None:
        if slug is not None and slug in self.id_by_slug:
            raise ApiError("form_identifier_exists", f"The slug {slug} is taken.", param="slug")

    def _require_room_for_organization(self, created_by: str | None) -> None:
        quota = self.settings.organization_quota
        if quota and len(self.organizations) >= quota:
            raise ApiError("organization_quota_exceeded", f"The instance may hold {quota} organizations.")
        if created_by is None:
            return
        creator = self.users.get(created_by)
        if creator is None:
            raise ApiError("organization_creator_not_found", f"No user was found with id {created_by}.")
        limit = creator.create_organizations_limit
        if limit is None:
            limit = self.settings.organizations_per_user
        if limit and sum(row.created_by == created_by for row in self.organizations.values()) >= limit:
            raise ApiError("org_creation_limit_exceeded", f"The user may create {limit} organizations.")

    def _require_other_admin(self, membership: Membership) -> None:
        """Raise `organization_minimum_permissions_needed` for the last member with MINIMUM_PERMISSIONS."""
        elevated = {key for key, role in self.settings.roles.items() if role.is_elevated}
        if membership.role not in elevated:
            return
        others = self.members[membership.organization_id].values()
        if not any(row.id != membership.id and row.role in elevated for row in others):
            raise ApiError("organization_minimum_permissions_needed")

    # --- changing ----------------------------------------------------------------------------

    def _generated_slug(self, name: str, now: int) -> str | None:
        if self.settings.slug_disabled and self.settings.null_slugs:
            return None
        slug = slugify(name)
        return f"{slug}-{now}" if slug in self.id_by_slug else slug

    def _add_member(self, organization: Organization, user_id: str, role: str, **fields: Any) -> Membership:
        now = self.clock.next()
        membership = Membership(self.new_id("orgmem_"), organization.id, user_id, role, now, now, **fields)
        return self._commit("organizationMembership.created", membership)

    def _commit(self, event_type: str, record: AnyRecord, *, cascaded: bool = False) -> AnyRecord:
        """Store one change and report it to `on_change`. No other method changes records."""
        deleted = event_type.endswith(".deleted")
        timestamp = self.clock.next() if deleted else record.updated_at
        self._apply(record, deleted=deleted)
        self._derived.clear()
        self.on_change(event_type, record, timestamp, cascaded)
        return record

    def _apply(self, record: Record, *, deleted: bool) -> None:
        """Store or remove a record in all dictionaries."""
        match record:
            case User():
                self.users.pop(record.id, None)
                if not deleted:
                    self.users[record.id] = record
            case Organization():
                before = self.organizations.pop(record.id, None)
                if before is not None:
                    self.id_by_slug.pop(before.slug, None)
                if not deleted:
                    self.organizations[record.id] = record
                    if record.slug is not None:
                        self.id_by_slug[record.slug] = record.id
            case Membership():
                by_user = self.members.setdefault(record.organization_id, {})
                by_organization = self.memberships.setdefault(record.user_id, {})
                by_user.pop(record.user_id, None)
                by_organization.pop(record.organization_id, None)
                if not deleted:
                    by_user[record.user_id] = by_organization[record.organization_id] = record
