"""The stored records with their indexes, and how a change alters them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from clerk_integration.sandbox.records import Change, Membership, MembershipView, Organization, User


@dataclass
class Tables:
    """Records by id, and the indexes that keep look-ups and listings fast."""

    users: dict[str, User] = field(default_factory=dict)
    organizations: dict[str, Organization] = field(default_factory=dict)
    organization_by_slug: dict[str, str] = field(default_factory=dict)
    members: dict[str, dict[str, Membership]] = field(default_factory=dict)
    """Memberships by organization, then by user."""
    memberships: dict[str, dict[str, Membership]] = field(default_factory=dict)
    """Memberships by user, then by organization."""

    def copy(self) -> "Tables":
        """A copy that shares the records, which never change themselves."""
        return Tables(
            dict(self.users),
            dict(self.organizations),
            dict(self.organization_by_slug),
            {key: dict(rows) for key, rows in self.members.items()},
            {key: dict(rows) for key, rows in self.memberships.items()},
        )

    def view(self, membership: Membership) -> MembershipView:
        """The membership with the organization and the user that it joins."""
        return MembershipView(
            membership, self.organizations[membership.organization_id], self.users[membership.user_id]
        )

    def views(self, memberships: Iterable[Membership]) -> list[MembershipView]:
        """The same for many."""
        return [self.view(membership) for membership in memberships]

    def apply(self, change: Change) -> None:
        """Store what the change says, in every index."""
        deleted = change.is_deletion
        match change.subject:
            case User() as user if deleted:
                del self.users[user.id]
            case User() as user:
                self.users[user.id] = user
            case Organization() as organization:
                self._drop_organization(organization.id)
                if not deleted:
                    self._put_organization(organization)
            case MembershipView(membership=membership):
                self._drop_membership(membership)
                if not deleted:
                    self._put_membership(membership)

    def _put_organization(self, organization: Organization) -> None:
        self.organizations[organization.id] = organization
        if organization.slug is not None:
            self.organization_by_slug[organization.slug] = organization.id

    def _drop_organization(self, organization_id: str) -> None:
        stored = self.organizations.pop(organization_id, None)
        if stored is not None and stored.slug is not None:
            del self.organization_by_slug[stored.slug]

    def _put_membership(self, membership: Membership) -> None:
        self.members.setdefault(membership.organization_id, {})[membership.user_id] = membership
        self.memberships.setdefault(membership.user_id, {})[membership.organization_id] = membership

    def _drop_membership(self, membership: Membership) -> None:
        self.members.get(membership.organization_id, {}).pop(membership.user_id, None)
        self.memberships.get(membership.user_id, {}).pop(membership.organization_id, None)
