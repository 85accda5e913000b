"""Memberships: of one organization, of one user, of the whole instance."""

from collections.abc import Callable
from typing import Any

from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.metadata import merged
from clerk_integration.sandbox.parameters import Order, require_metadata_size
from clerk_integration.sandbox.records import MembershipView
from clerk_integration.sandbox.routing import Route
from clerk_integration.sandbox.user_filter import SHARED, user_filter

ORDER_FIELDS = frozenset(
    {"phone_number", "email_address", "created_at", "first_name", "last_name", "username"}
)
METADATA = ("public_metadata", "private_metadata")
PER_MEMBERSHIP = ("organization_id", "user_id")


def list_of_organization(clerk: LocalClerk, request: Request, organization_id: str) -> Reply:
    """Serve a page of one organization's memberships."""
    query = request.parameters(*SHARED, "role", "order_by", "limit", "offset")
    order, page, admits = query.order(ORDER_FIELDS), query.page(), user_filter(query)
    roles = query.values("role")
    rows = _sorted(clerk.store.memberships_of_organization(organization_id), order)
    if admits is not None or roles:
        rows = [
            row
            for row in rows
            if (admits is None or admits(row.user)) and (not roles or row.membership.role in roles)
        ]
    return Reply.text(clerk.serializer.memberships(rows[page], len(rows)))


def list_of_user(clerk: LocalClerk, request: Request, user_id: str) -> Reply:
    """Serve a page of one user's memberships, the newest first."""
    page = request.parameters("limit", "offset").page()
    rows = _sorted(clerk.store.memberships_of_user(user_id), Order("created_at", descending=True))
    return Reply.text(clerk.serializer.memberships(rows[page], len(rows)))


def list_of_instance(clerk: LocalClerk, request: Request) -> Reply:
    """Serve a page of all memberships."""
    query = request.parameters("order_by", "limit", "offset")
    order, page = query.order(ORDER_FIELDS), query.page()
    with clerk.store.lock:
        rows = clerk.derived(f"memberships by {order}", lambda: _sorted(clerk.store.all_memberships(), order))
    return Reply.text(clerk.serializer.memberships(rows[page], len(rows)))


def create_membership(clerk: LocalClerk, request: Request, organization_id: str) -> Reply:
    """Make a user a member."""
    body = request.body("user_id", "role", *METADATA)
    view = clerk.store.create_membership(
        organization_id,
        body.required_text("user_id"),
        body.required_text("role"),
        body.metadata("public_metadata") or {},
        body.metadata("private_metadata") or {},
    )
    return Reply.text(clerk.serializer.membership(view))


def update_membership(clerk: LocalClerk, request: Request, organization_id: str, user_id: str) -> Reply:
    """Change a member's role."""
    role = request.body("role").required_text("role")
    view = clerk.store.update_membership(organization_id, user_id, {"role": role})
    return Reply.text(clerk.serializer.membership(view))


def delete_membership(clerk: LocalClerk, request: Request, organization_id: str, user_id: str) -> Reply:
    """Remove a member; the answer is the membership, not a deleted object."""
    request.parameters()
    view = clerk.store.delete_membership(organization_id, user_id)
    return Reply.text(clerk.serializer.membership(view))


def merge_metadata(clerk: LocalClerk, request: Request, organization_id: str, user_id: str) -> Reply:
    """Merge a membership's metadata deeply; null removes a key."""
    body = request.body(*METADATA)
    with clerk.store.lock:
        stored = clerk.store.membership(organization_id, user_id).membership
        changes = {
            name: merged(getattr(stored, name), body.metadata(name) or {})
            for name in METADATA
            if body.given(name)
        }
        for name, value in changes.items():
            require_metadata_size(name, value)
        view = clerk.store.update_membership(organization_id, user_id, changes)
    return Reply.text(clerk.serializer.membership(view))


def _sorted(rows: list[MembershipView], order: Order) -> list[MembershipView]:
    rows.sort(key=_sort_key(order.field), reverse=order.descending)
    return rows


def _sort_key(field: str) -> Callable[[MembershipView], tuple[Any, str]]:
    if field == "created_at":
        return lambda row: (row.membership.created_at, row.membership.id)
    return lambda row: (getattr(row.user, field, None) or "", row.membership.id)


ROUTES = (
    Route("GET", "/v1/organizations/{organization_id}/memberships", list_of_organization),
    Route("POST", "/v1/organizations/{organization_id}/memberships", create_membership),
    Route(
        "PATCH",
        "/v1/organizations/{organization_id}/memberships/{user_id}",
        update_membership,
        limited_per=PER_MEMBERSHIP,
    ),
    Route("DELETE", "/v1/organizations/{organization_id}/memberships/{user_id}", delete_membership),
    Route(
        "PATCH",
        "/v1/organizations/{organization_id}/memberships/{user_id}/metadata",
        merge_metadata,
        limited_per=PER_MEMBERSHIP,
    ),
    Route("GET", "/v1/users/{user_id}/organization_memberships", list_of_user),
    Route("GET", "/v1/organization_memberships", list_of_instance),
)
