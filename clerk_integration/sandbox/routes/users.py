"""Users; they are made through the control API."""

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.parameters import Order, Query
from clerk_integration.sandbox.records import User
from clerk_integration.sandbox.routing import Route
from clerk_integration.sandbox.shapes import deleted_user_json, total_count_json
from clerk_integration.sandbox.user_filter import SHARED, USERS_ONLY, user_filter

ORDER_FIELDS = frozenset(
    {
        "created_at",
        "updated_at",
        "email_address",
        "web3wallet",
        "first_name",
        "last_name",
        "phone_number",
        "username",
        "last_active_at",
        "last_sign_in_at",
    }
)


def list_users(clerk: LocalClerk, request: Request) -> Reply:
    """Serve a page of users, a bare list; by offset or by the cursor `starting_after`."""
    query = request.parameters(*SHARED, *USERS_ONLY, "order_by", "limit", "offset", "starting_after")
    order, page, cursor = query.order(ORDER_FIELDS), query.page(), query.text("starting_after")
    rows = _matching(clerk, query)
    rows.sort(key=lambda row: (getattr(row, order.field, None) or "", row.id), reverse=order.descending)
    if cursor is not None:
        rows = _after(rows, cursor, order, page)
    return Reply.text(clerk.serializer.users(rows[page]))


def count_users(clerk: LocalClerk, request: Request) -> Reply:
    """Serve the number of users that match."""
    query = request.parameters(*SHARED, *USERS_ONLY)
    return Reply.json(total_count_json(len(_matching(clerk, query))))


def get_user(clerk: LocalClerk, request: Request, user_id: str) -> Reply:
    """Serve one user."""
    request.parameters()
    return Reply.text(clerk.serializer.user(clerk.store.user(user_id)))


def update_user(clerk: LocalClerk, request: Request, user_id: str) -> Reply:
    """Change a user's names and external id; null leaves a field as it is."""
    names = ("first_name", "last_name", "username", "external_id")
    body = request.body(*names, "notify_primary_email_address_changed")
    body.boolean("notify_primary_email_address_changed")
    changes = {name: body.text(name) for name in names if body.given(name)}
    return Reply.text(clerk.serializer.user(clerk.store.update_user(user_id, changes)))


def delete_user(clerk: LocalClerk, request: Request, user_id: str) -> Reply:
    """Delete a user and their memberships."""
    request.parameters()
    return Reply.json(deleted_user_json(clerk.store.delete_user(user_id)))


def _matching(clerk: LocalClerk, query: Query) -> list[User]:
    admits = user_filter(query)
    organizations = query.signed("organization_id")
    rows = clerk.store.all_users()
    if admits is not None:
        rows = [row for row in rows if admits(row)]
    if organizations.included:
        members = clerk.store.user_ids_of(organizations.included)
        rows = [row for row in rows if row.id in members]
    if organizations.excluded:
        members = clerk.store.user_ids_of(organizations.excluded)
        rows = [row for row in rows if row.id not in members]
    return rows


def _after(rows: list[User], cursor: str, order: Order, page: slice) -> list[User]:
    """The rows behind the cursor; Clerk takes it with a created_at order and without an offset only."""
    if order.field != "created_at" or page.start:
        raise ApiError("form_param_value_invalid", param="starting_after")
    for position, row in enumerate(rows):
        if row.id == cursor:
            return rows[position + 1 :]
    raise ApiError("form_param_value_invalid", "The cursor names no user.", param="starting_after")


ROUTES = (
    Route("GET", "/v1/users", list_users),
    Route("GET", "/v1/users/count", count_users),
    Route("GET", "/v1/users/{user_id}", get_user),
    Route("PATCH", "/v1/users/{user_id}", update_user, limited_per=("user_id",)),
    Route("DELETE", "/v1/users/{user_id}", delete_user),
)
