"""Organizations and their metadata."""

from collections.abc import Callable
from typing import Any

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.metadata import merged
from clerk_integration.sandbox.parameters import Body, Order, Signed, require_metadata_size
from clerk_integration.sandbox.records import Organization
from clerk_integration.sandbox.routing import Route
from clerk_integration.sandbox.shapes import deleted_organization_json

FLAGS = ("include_members_count", "include_missing_member_with_elevated_permissions")
DEFAULT_ROLE_SET = "role_set:default"
PER_ORGANIZATION = ("organization_id",)


def list_organizations(clerk: LocalClerk, request: Request) -> Reply:
    """Serve a page of organizations."""
    query = request.parameters(*FLAGS, "query", "user_id", "organization_id", "order_by", "limit", "offset")
    order = query.order({"name", "created_at", "members_count"})
    admits = _filter(clerk, query.signed("organization_id"), query.signed("user_id"), query.text("query"))
    page = query.page()
    with_count = bool(query.boolean(FLAGS[0]))
    query.boolean(FLAGS[1])
    with clerk.store.lock:
        rows = _sorted(clerk, order)
        if admits is not None:
            rows = [row for row in rows if admits(row)]
        text = clerk.serializer.organizations(rows[page], len(rows), members_count=with_count)
    return Reply.text(text)


def create_organization(clerk: LocalClerk, request: Request) -> Reply:
    """Create an organization; its creator becomes a member in the creator role."""
    body = request.body(
        "name",
        "slug",
        "created_by",
        "private_metadata",
        "public_metadata",
        "max_allowed_memberships",
        "created_at",
        "role_set_key",
    )
    _require_known_role_set(body)
    organization = clerk.store.create_organization(
        name=body.organization_name(),
        slug=body.slug(),
        created_by=body.text("created_by"),
        max_allowed_memberships=body.integer("max_allowed_memberships"),
        created_at=body.milliseconds("created_at"),
        public_metadata=body.metadata("public_metadata"),
        private_metadata=body.metadata("private_metadata"),
    )
    return Reply.text(clerk.serializer.organization(organization))


def get_organization(clerk: LocalClerk, request: Request, organization_id: str) -> Reply:
    """Serve one organization by id or slug."""
    query = request.parameters(*FLAGS)
    with_count = bool(query.boolean(FLAGS[0]))
    query.boolean(FLAGS[1])
    organization = clerk.store.organization_by_id_or_slug(organization_id)
    return Reply.text(clerk.serializer.organization(organization, members_count=with_count))


def update_organization(clerk: LocalClerk, request: Request, organization_id: str) -> Reply:
    """Change an organization; null leaves a field as it is."""
    body = request.body(
        "name", "slug", "max_allowed_memberships", "admin_delete_enabled", "created_at", "role_set_key"
    )
    _require_known_role_set(body)
    wanted: dict[str, Any] = {
        "name": body.organization_name() if body.given("name") else None,
        "slug": body.slug(),
        "max_allowed_memberships": body.integer("max_allowed_memberships"),
        "admin_delete_enabled": body.boolean("admin_delete_enabled"),
        "created_at": body.milliseconds("created_at"),
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    return Reply.text(
        clerk.serializer.organization(clerk.store.update_organization(organization_id, changes))
    )


def delete_organization(clerk: LocalClerk, request: Request, organization_id: str) -> Reply:
    """Delete an organization and its memberships."""
    request.parameters()
    return Reply.json(deleted_organization_json(clerk.store.delete_organization(organization_id)))


def merge_metadata(clerk: LocalClerk, request: Request, organization_id: str) -> Reply:
    """Merge metadata deeply; null removes a key."""
    body = request.body("public_metadata", "private_metadata")
    with clerk.store.lock:
        stored = clerk.store.organization(organization_id)
        changes = {
            name: merged(getattr(stored, name) or {}, body.metadata(name) or {})
            for name in ("public_metadata", "private_metadata")
            if body.given(name)
        }
        for name, value in changes.items():
            require_metadata_size(name, value)
        organization = clerk.store.update_organization(organization_id, changes)
    return Reply.text(clerk.serializer.organization(organization))


def replace_metadata(clerk: LocalClerk, request: Request, organization_id: str) -> Reply:
    """Replace the metadata that is sent; Clerk stores a null as null."""
    body = request.body("public_metadata", "private_metadata")
    changes = {name: body.metadata(name) for name in ("public_metadata", "private_metadata") if name in body}
    return Reply.text(
        clerk.serializer.organization(clerk.store.update_organization(organization_id, changes))
    )


def _require_known_role_set(body: Body) -> None:
    if body.text("role_set_key") not in {None, DEFAULT_ROLE_SET}:
        raise ApiError("form_resource_not_found", "There is no such role set.", param="role_set_key")


def _sorted(clerk: LocalClerk, order: Order) -> list[Organization]:
    def compute() -> list[Organization]:
        rows = clerk.store.all_organizations()
        rows.sort(key=_sort_key(clerk, order.field), reverse=order.descending)
        return rows

    return clerk.derived(f"organizations by {order}", compute)


def _sort_key(clerk: LocalClerk, field: str) -> Callable[[Organization], tuple[Any, str]]:
    if field == "members_count":
        return lambda row: (clerk.store.members_count(row.id), row.id)
    return lambda row: (getattr(row, field), row.id)


def _filter(
    clerk: LocalClerk, ids: Signed, users: Signed, text: str | None
) -> Callable[[Organization], bool] | None:
    if not (ids or users or text):
        return None
    needle = (text or "").lower()
    included = clerk.store.organization_ids_of(users.included) if users.included else None
    excluded = clerk.store.organization_ids_of(users.excluded)

    def admits(row: Organization) -> bool:
        return (
            ids.admits(row.id)
            and (included is None or row.id in included)
            and row.id not in excluded
            and (row.id == text or needle in row.name.lower() or needle in (row.slug or ""))
        )

    return admits


ROUTES = (
    Route("GET", "/v1/organizations", list_organizations),
    Route("POST", "/v1/organizations", create_organization),
    Route("GET", "/v1/organizations/{organization_id}", get_organization),
    Route("PATCH", "/v1/organizations/{organization_id}", update_organization, limited_per=PER_ORGANIZATION),
    Route("DELETE", "/v1/organizations/{organization_id}", delete_organization),
    Route(
        "PATCH",
        "/v1/organizations/{organization_id}/metadata",
        merge_metadata,
        limited_per=PER_ORGANIZATION,
    ),
    Route(
        "PUT",
        "/v1/organizations/{organization_id}/metadata",
        replace_metadata,
        limited_per=PER_ORGANIZATION,
    ),
)
