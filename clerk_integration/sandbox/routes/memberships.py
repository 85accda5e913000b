"""Endpoints for the memberships of one organization, of one user and of the whole instance."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from clerk_integration.sandbox import parameters, queries
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.parameters import Parameters, optional, required
from clerk_integration.sandbox.queries import OrderedPage, Page
from clerk_integration.sandbox.records import Membership
from clerk_integration.sandbox.routes.organizations import MetadataChange, merge
from clerk_integration.sandbox.routes.user_filter import UserFilter
from clerk_integration.sandbox.routing import API
from clerk_integration.sandbox.store import Store

PER_MEMBERSHIP = ("organization_id", "user_id")
OF_ORGANIZATION = "/v1/organizations/{organization_id}/memberships"
ONE = f"{OF_ORGANIZATION}/{{user_id}}"


class MembershipPage(OrderedPage):
    """The parameters of the list of all memberships."""

    orders: ClassVar = frozenset(
        {"phone_number", "email_address", "created_at", "first_name", "last_name", "username"}
    )


class MemberPage(MembershipPage, UserFilter):
    """The parameters of the list of one organization's memberships."""

    role: Sequence[str] = optional(queries.values, ())


class RoleChange(Parameters):
    """The new role of a member."""

    role: str = required(parameters.filled_text)


class NewMembership(RoleChange, MetadataChange):
    """The user to add, and the role of the new member."""

    user_id: str = required(parameters.filled_text)


@API.route("GET", OF_ORGANIZATION)
def list_of_organization(clerk: LocalClerk, given: MemberPage, organization_id: str) -> Any:
    """Serve a page of one organization's memberships."""
    store, tests = clerk.store, given.tests()
    store.organization(organization_id)
    rows = _sorted(store, store.members.get(organization_id, {}).values(), given.order)
    if given.role:
        rows = [row for row in rows if row.role in given.role]
    for test in tests:
        rows = [row for row in rows if test(store.users[row.user_id])]
    return clerk.serializer.memberships(rows[given.page], len(rows))


@API.route("GET", "/v1/users/{user_id}/organization_memberships")
def list_of_user(clerk: LocalClerk, given: Page, user_id: str) -> Any:
    """Serve a page of one user's memberships, newest first."""
    store = clerk.store
    store.require_organizations_enabled()
    store.user(user_id)
    rows = _sorted(store, store.memberships.get(user_id, {}).values(), ("created_at", True))
    return clerk.serializer.memberships(rows[given.page], len(rows))


@API.route("GET", "/v1/organization_memberships")
def list_of_instance(clerk: LocalClerk, given: MembershipPage) -> Any:
    """Serve a page of all memberships."""
    store, order = clerk.store, given.order
    store.require_organizations_enabled()
    rows = store.derived(f"memberships by {order}", lambda: _sorted(store, store.all_memberships(), order))
    return clerk.serializer.memberships(rows[given.page], len(rows))


@API.route("POST", OF_ORGANIZATION)
def create_membership(clerk: LocalClerk, given: NewMembership, organization_id: str) -> Any:
    """Add a user to an organization."""
    return clerk.serializer.membership(clerk.store.create_membership(organization_id, **given.given()))


@API.route("PATCH", ONE, limited_per=PER_MEMBERSHIP)
def update_membership(clerk: LocalClerk, given: RoleChange, organization_id: str, user_id: str) -> Any:
    """Change a member's role."""
    membership = clerk.store.update_membership(organization_id, user_id, given.given())
    return clerk.serializer.membership(membership)


@API.route("DELETE", ONE)
def delete_membership(clerk: LocalClerk, organization_id: str, user_id: str) -> Any:
    """Remove a member. The reply is the full membership, not a deleted object."""
    return clerk.serializer.membership(clerk.store.delete_membership(organization_id, user_id))


@API.route("PATCH", f"{ONE}/metadata", limited_per=PER_MEMBERSHIP)
def merge_metadata(clerk: LocalClerk, given: MetadataChange, organization_id: str, user_id: str) -> Any:
    """Merge the metadata of a membership at every level; null removes a key."""
    changes = merge(clerk.store.membership(organization_id, user_id), given)
    return clerk.serializer.membership(clerk.store.update_membership(organization_id, user_id, changes))


def _sorted(store: Store, rows: Iterable[Membership], order: tuple[str, bool]) -> list[Membership]:
    name, descending = order

    def key(row: Membership) -> tuple[Any, str]:
        value = row.created_at if name == "created_at" else getattr(store.users[row.user_id], name, None)
        return value or "", row.id

    return sorted(rows, key=key, reverse=descending)
