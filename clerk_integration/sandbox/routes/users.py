"""Endpoints for users. The control API creates users."""

from collections.abc import Sequence
from typing import Any, ClassVar

from clerk_integration.sandbox import parameters, queries
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.parameters import Parameters, optional
from clerk_integration.sandbox.queries import OrderedPage, Signed
from clerk_integration.sandbox.records import User
from clerk_integration.sandbox.routes.memberships import MembershipPage
from clerk_integration.sandbox.routes.user_filter import UserFilter
from clerk_integration.sandbox.routing import API
from clerk_integration.sandbox.shapes import deleted_json


class Users(UserFilter):
    """The filters of a list of users."""

    external_id: Sequence[str] = optional(queries.values, ())
    organization_id: Sequence[str] = optional(queries.values, ())


class UserPage(OrderedPage, Users):
    """The parameters of the list of users."""

    orders: ClassVar = MembershipPage.orders | {
        "updated_at",
        "web3wallet",
        "last_active_at",
        "last_sign_in_at",
    }
    starting_after: str | None = optional(queries.text)


class UserChange(Parameters):
    """The fields of a user that a client can change."""

    first_name: str | None = optional(parameters.text)
    last_name: str | None = optional(parameters.text)
    username: str | None = optional(parameters.text)
    external_id: str | None = optional(parameters.text)
    notify_primary_email_address_changed: bool = optional(parameters.boolean, False)


@API.route("GET", "/v1/users")
def list_users(clerk: LocalClerk, given: UserPage) -> Any:
    """Serve a page of users as a JSON array. `offset` or the cursor `starting_after` selects the page."""
    name, descending = given.order
    rows = _matching(clerk, given)
    rows.sort(key=lambda row: (getattr(row, name, None) or "", row.id), reverse=descending)
    if given.starting_after is not None:
        rows = _after(rows, given)
    return clerk.serializer.users(rows[given.page])


@API.route("GET", "/v1/users/count")
def count_users(clerk: LocalClerk, given: Users) -> Any:
    """Serve the number of users that match the filters."""
    return {"object": "total_count", "total_count": len(_matching(clerk, given))}


@API.route("GET", "/v1/users/{user_id}")
def get_user(clerk: LocalClerk, user_id: str) -> Any:
    """Serve one user."""
    return clerk.serializer.user(clerk.store.user(user_id))


@API.route("PATCH", "/v1/users/{user_id}", limited_per=("user_id",))
def update_user(clerk: LocalClerk, given: UserChange, user_id: str) -> Any:
    """Change names and external id of a user; null means no change."""
    changes = given.given()
    changes.pop("notify_primary_email_address_changed", None)
    return clerk.serializer.user(clerk.store.update_user(user_id, changes))


@API.route("DELETE", "/v1/users/{user_id}")
def delete_user(clerk: LocalClerk, user_id: str) -> Any:
    """Delete a user and their memberships."""
    return deleted_json(clerk.store.delete_user(user_id))


def _matching(clerk: LocalClerk, given: Users) -> list[User]:
    tests, memberships = given.tests(), clerk.store.memberships
    if external_ids := Signed(given.external_id):
        tests.append(lambda user: external_ids.admits(user.external_id or ""))
    if organizations := Signed(given.organization_id):
        tests.append(lambda user: organizations.admits(*memberships.get(user.id, ())))
    return [row for row in clerk.store.users.values() if all(test(row) for test in tests)]


def _after(rows: list[User], given: UserPage) -> list[User]:
    """Return the rows after the cursor. Like Clerk, require an order by created_at and no offset."""
    if given.order[0] != "created_at" or given.offset:
        raise ApiError("form_param_value_invalid", param="starting_after")
    for position, row in enumerate(rows):
        if row.id == given.starting_after:
            return rows[position + 1 :]
    raise ApiError("form_param_value_invalid", "The cursor names no user.", param="starting_after")
