"""The records of one Clerk instance and every change of them. No HTTP in here.

Every public method holds the lock for its whole duration, so that a check and the change it guards
are one step. Every change passes through `_commit`.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from clerk_integration.sandbox import rules
from clerk_integration.sandbox.clock import MillisecondClock
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.identifiers import random_id, slugify
from clerk_integration.sandbox.records import (
    Change,
    InstanceSettings,
    Membership,
    MembershipView,
    Metadata,
    Organization,
    RawPatch,
    Role,
    User,
)
from clerk_integration.sandbox.tables import Tables

P = ParamSpec("P")
T = TypeVar("T")


def _locked(method: Callable[Concatenate["Store", P], T]) -> Callable[Concatenate["Store", P], T]:
    @wraps(method)
    def call(store: "Store", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with store.lock:
            return method(store, *args, **kwargs)

    return call


def _found(record: T | None, detail: str) -> T:
    if record is None:
        raise ApiError("resource_not_found", detail)
    return record


class Store:
    """The instance's users, organizations, memberships and settings."""

    def __init__(self, settings: InstanceSettings, clock: MillisecondClock | None = None) -> None:
        self.lock = threading.RLock()
        self.clock = clock or MillisecondClock()
        self.settings = settings
        self.tables = Tables()
        self.raw_patches: dict[str, RawPatch] = {}
        self.version = 0
        """Grows with every change; what is derived from the records is valid for one version."""
        self.on_change: Callable[[Change], None] | None = None
        """Called within each change, under the lock; it must be quick."""

    # --- reading -----------------------------------------------------------------------------

    @_locked
    def user(self, user_id: str) -> User:
        """Return the user; raise `resource_not_found`."""
        return _found(self.tables.users.get(user_id), f"No user was found with id {user_id}.")

    @_locked
    def organization(self, organization_id: str) -> Organization:
        """Return the organization by its id; raise `resource_not_found`."""
        rules.require_organizations_enabled(self.settings)
        return _found(
            self.tables.organizations.get(organization_id),
            f"No organization was found with id {organization_id}.",
        )

    @_locked
    def organization_by_id_or_slug(self, key: str) -> Organization:
        """Return the organization by id, else by slug; raise `resource_not_found`."""
        return self.organization(self.tables.organization_by_slug.get(key, key))

    @_locked
    def members_count(self, organization_id: str) -> int:
        """Return how many members the organization has; 0 for an unknown one."""
        return len(self.tables.members.get(organization_id, ()))

    @_locked
    def membership(self, organization_id: str, user_id: str) -> MembershipView:
        """Return one membership with what it nests; raise `resource_not_found`."""
        self.organization(organization_id)
        membership = _found(
            self.tables.members.get(organization_id, {}).get(user_id),
            f"User {user_id} is not a member of organization {organization_id}.",
        )
        return self.tables.view(membership)

    @_locked
    def all_users(self) -> list[User]:
        """Return every user."""
        return list(self.tables.users.values())

    @_locked
    def all_organizations(self) -> list[Organization]:
        """Return every organization."""
        rules.require_organizations_enabled(self.settings)
        return list(self.tables.organizations.values())

    @_locked
    def memberships_of_organization(self, organization_id: str) -> list[MembershipView]:
        """Return the organization's memberships; raise `resource_not_found`."""
        self.organization(organization_id)
        return self.tables.views(self.tables.members.get(organization_id, {}).values())

    @_locked
    def memberships_of_user(self, user_id: str) -> list[MembershipView]:
        """Return the user's memberships; raise `resource_not_found`."""
        rules.require_organizations_enabled(self.settings)
        self.user(user_id)
        return self.tables.views(self.tables.memberships.get(user_id, {}).values())

    @_locked
    def all_memberships(self) -> list[MembershipView]:
        """Return every membership of the instance."""
        rules.require_organizations_enabled(self.settings)
        return self.tables.views(row for rows in self.tables.members.values() for row in rows.values())

    @_locked
    def organization_ids_of(self, user_ids: Iterable[str]) -> set[str]:
        """Return the ids of the organizations that any of these users is a member of."""
        return {key for user_id in user_ids for key in self.tables.memberships.get(user_id, ())}

    @_locked
    def user_ids_of(self, organization_ids: Iterable[str]) -> set[str]:
        """Return the ids of the members of any of these organizations."""
        return {key for item in organization_ids for key in self.tables.members.get(item, ())}

    @_locked
    def role(self, key: str) -> Role:
        """Return the role; raise `resource_not_found`."""
        return _found(self.settings.roles.get(key), f"No role was found with key {key}.")

    # --- users -------------------------------------------------------------------------------

    @_locked
    def create_user(self, /, user_id: str | None = None, **fields: Any) -> User:
        """Store a user under the given id or a new one; raise `form_identifier_exists`."""
        if user_id in self.tables.users:
            raise ApiError("form_identifier_exists", f"User {user_id} exists already.", param="id")
        now = self.clock.next()
        user = User(user_id or random_id("user_"), created_at=now, updated_at=now, **fields)
        self._commit("user.created", user)
        return user

    @_locked
    def update_user(self, user_id: str, changes: Mapping[str, Any]) -> User:
        """Change some fields of a user."""
        updated = replace(self.user(user_id), **changes, updated_at=self.clock.next())
        self._commit("user.updated", updated)
        return updated

    @_locked
    def delete_user(self, user_id: str) -> User:
        """Remove a user and all their memberships, the last admin's too."""
        user = self.user(user_id)
        for view in self.tables.views(list(self.tables.memberships.get(user_id, {}).values())):
            self._commit("organizationMembership.deleted", view, cascaded=True)
        self._commit("user.deleted", user)
        return user

    # --- organizations -----------------------------------------------------------------------

    @_locked
    def create_organization(
        self, /, *, name: str, slug: str | None, created_by: str | None, **optional: Any
    ) -> Organization:
        """Store an organization and, when it has a creator, their membership in the creator role.

        `optional` are further fields of the record; those that are None get the instance's default.
        Raise Clerk's refusals: slugs disabled, slug taken, unknown creator, quotas.
        """
        settings = self.settings
        rules.require_organizations_enabled(settings)
        rules.require_slug_allowed(settings, slug)
        rules.require_room_for_organization(self.tables, settings, created_by)
        rules.require_slug_free(self.tables, slug)
        now = self.clock.next()
        defaults = {
            "created_at": now,
            "max_allowed_memberships": settings.max_allowed_memberships,
            "admin_delete_enabled": settings.admin_delete_enabled,
        }
        given = {key: value for key, value in optional.items() if value is not None}
        organization = Organization(
            id=random_id("org_"),
            name=name,
            slug=slug or self._generated_slug(name, now),
            updated_at=now,
            created_by=created_by,
            **{**defaults, **given},
        )
        self._commit("organization.created", organization)
        if created_by is not None:
            self._add_member(organization, created_by, settings.creator_role, {}, {})
        return organization

    @_locked
    def update_organization(self, organization_id: str, changes: Mapping[str, Any]) -> Organization:
        """Change some fields of an organization, keeping the rules about slugs."""
        organization = self.organization(organization_id)
        slug = changes.get("slug")
        rules.require_slug_allowed(self.settings, slug)
        if slug != organization.slug:
            rules.require_slug_free(self.tables, slug)
        updated = replace(organization, **changes, updated_at=self.clock.next())
        self._commit("organization.updated", updated)
        return updated

    @_locked
    def delete_organization(self, organization_id: str) -> Organization:
        """Remove an organization and all its memberships."""
        organization = self.organization(organization_id)
        for view in self.memberships_of_organization(organization_id):
            self._commit("organizationMembership.deleted", view, cascaded=True)
        self._commit("organization.deleted", organization)
        return organization

    # --- memberships -------------------------------------------------------------------------

    @_locked
    def create_membership(
        self,
        organization_id: str,
        user_id: str,
        role: str,
        public_metadata: Metadata,
        private_metadata: Metadata,
    ) -> MembershipView:
        """Make a user a member; refuse a second membership and one over the quota."""
        organization = self.organization(organization_id)
        self.user(user_id)
        self.role(role)
        rules.require_room_for_member(self.tables, organization, user_id)
        return self._add_member(organization, user_id, role, public_metadata, private_metadata)

    @_locked
    def update_membership(
        self, organization_id: str, user_id: str, changes: Mapping[str, Any]
    ) -> MembershipView:
        """Change a membership's role or metadata; refuse to demote the last admin."""
        view = self.membership(organization_id, user_id)
        if not self.role(changes.get("role", view.membership.role)).is_elevated:
            rules.require_other_admin(self.tables, self.settings, view.membership)
        updated = replace(view.membership, **changes, updated_at=self.clock.next())
        changed = MembershipView(updated, view.organization, view.user)
        self._commit("organizationMembership.updated", changed)
        return changed

    @_locked
    def delete_membership(self, organization_id: str, user_id: str) -> MembershipView:
        """Remove a membership; refuse to remove the last admin."""
        view = self.membership(organization_id, user_id)
        rules.require_other_admin(self.tables, self.settings, view.membership)
        self._commit("organizationMembership.deleted", view)
        return view

    # --- the instance ------------------------------------------------------------------------

    @_locked
    def change_settings(self, changes: Mapping[str, Any]) -> InstanceSettings:
        """Change some of the instance's settings."""
        self.settings = replace(self.settings, **changes)
        return self.settings

    @_locked
    def patch_raw(self, record_id: str, patch: RawPatch) -> None:
        """From now on serve this record's JSON with a change that Clerk's rules would not allow."""
        self.raw_patches[record_id] = patch

    @_locked
    def replace_all(self, tables: Tables, settings: InstanceSettings) -> None:
        """Exchange everything that is stored. Nobody is told: this is no change within Clerk."""
        self.tables = tables.copy()
        self.settings = settings
        self.raw_patches = {}
        self.version += 1

    def _generated_slug(self, name: str, now: int) -> str | None:
        if self.settings.slug_disabled and self.settings.null_slugs:
            return None
        slug = slugify(name)
        return f"{slug}-{now}" if slug in self.tables.organization_by_slug else slug

    def _add_member(
        self,
        organization: Organization,
        user_id: str,
        role: str,
        public_metadata: Metadata,
        private_metadata: Metadata,
    ) -> MembershipView:
        now = self.clock.next()
        membership = Membership(
            random_id("orgmem_"), organization.id, user_id, role, now, now, public_metadata, private_metadata
        )
        view = self.tables.view(membership)
        self._commit("organizationMembership.created", view)
        return view

    def _commit(
        self, event_type: str, subject: User | Organization | MembershipView, *, cascaded: bool = False
    ) -> None:
        """The one place where a change happens."""
        record = subject.membership if isinstance(subject, MembershipView) else subject
        timestamp = self.clock.next() if event_type.endswith(".deleted") else record.updated_at
        change = Change(event_type, subject, timestamp, cascaded)
        self.tables.apply(change)
        self.version += 1
        if self.on_change is not None:
            self.on_change(change)
