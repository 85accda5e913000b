"""Endpoints for organizations and their metadata."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from clerk_integration.sandbox import parameters, queries
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.parameters import Parameters, merged, optional, required
from clerk_integration.sandbox.queries import OrderedPage, Query, Signed
from clerk_integration.sandbox.records import Metadata, Organization
from clerk_integration.sandbox.routing import API
from clerk_integration.sandbox.shapes import ROLE_SET, deleted_json
from clerk_integration.sandbox.store import Store

PER_ORGANIZATION = ("organization_id",)


class Flags(Query):
    """Parameters that add fields to the reply."""

    include_members_count: bool = optional(queries.boolean, False)
    include_missing_member_with_elevated_permissions: bool = optional(queries.boolean, False)


class OrganizationPage(OrderedPage, Flags):
    """The parameters of the list of organizations."""

    orders: ClassVar = frozenset({"name", "created_at", "members_count"})

    query: str | None = optional(queries.text)
    user_id: Sequence[str] = optional(queries.values, ())
    organization_id: Sequence[str] = optional(queries.values, ())


class OrganizationFields(Parameters):
    """The fields for a new and for an existing organization."""

    slug: str | None = optional(parameters.slug)
    max_allowed_memberships: int | None = optional(parameters.integer())
    created_at: int | None = optional(parameters.milliseconds)
    role_set_key: str | None = optional(parameters.text)

    def fields(self) -> dict[str, Any]:
        """Return the fields that were sent; raise `form_resource_not_found` for an unknown role set."""
        fields = self.given()
        if fields.pop("role_set_key", ROLE_SET) != ROLE_SET:
            detail = "There is no such role set."
            raise ApiError("form_resource_not_found", detail, param="role_set_key")
        return fields


class OrganizationChange(OrganizationFields):
    """The fields that a client can change."""

    name: str | None = optional(parameters.organization_name)
    admin_delete_enabled: bool | None = optional(parameters.boolean)


class MetadataChange(Parameters):
    """Metadata to merge."""

    public_metadata: Metadata | None = optional(parameters.metadata)
    private_metadata: Metadata | None = optional(parameters.metadata)


class NewOrganization(OrganizationFields, MetadataChange):
    """The fields of a new organization."""

    name: str = required(parameters.organization_name)
    created_by: str | None = optional(parameters.text)


class MetadataReplacement(MetadataChange):
    """Metadata that replaces the stored metadata. As in Clerk, null is stored as null."""

    keeps_null = True


@API.route("GET", "/v1/organizations")
def list_organizations(clerk: LocalClerk, given: OrganizationPage) -> Any:
    """Serve a page of organizations."""
    order, store = given.order, clerk.store
    store.require_organizations_enabled()
    rows = store.derived(f"organizations by {order}", lambda: _sorted(store, order))
    admits = _filter(clerk, given)
    if admits is not None:
        rows = [row for row in rows if admits(row)]
    page = rows[given.page]
    return clerk.serializer.organizations(page, len(rows), members_count=given.include_members_count)


@API.route("POST", "/v1/organizations")
def create_organization(clerk: LocalClerk, given: NewOrganization) -> Any:
    """Create an organization. The creator becomes a member with the creator role."""
    return clerk.serializer.organization(clerk.store.create_organization(**given.fields()))


@API.route("GET", "/v1/organizations/{organization_id}")
def get_organization(clerk: LocalClerk, given: Flags, organization_id: str) -> Any:
    """Serve one organization by id or slug."""
    store = clerk.store
    organization = store.organization(store.id_by_slug.get(organization_id, organization_id))
    return clerk.serializer.organization(organization, members_count=given.include_members_count)


@API.route("PATCH", "/v1/organizations/{organization_id}", limited_per=PER_ORGANIZATION)
def update_organization(clerk: LocalClerk, given: OrganizationChange, organization_id: str) -> Any:
    """Change an organization; null means no change."""
    return _updated(clerk, organization_id, given.fields())


@API.route("DELETE", "/v1/organizations/{organization_id}")
def delete_organization(clerk: LocalClerk, organization_id: str) -> Any:
    """Delete an organization and its memberships."""
    return deleted_json(clerk.store.delete_organization(organization_id))


@API.route("PATCH", "/v1/organizations/{organization_id}/metadata", limited_per=PER_ORGANIZATION)
def merge_metadata(clerk: LocalClerk, given: MetadataChange, organization_id: str) -> Any:
    """Merge metadata at every level; null removes a key."""
    return _updated(clerk, organization_id, merge(clerk.store.organization(organization_id), given))


@API.route("PUT", "/v1/organizations/{organization_id}/metadata", limited_per=PER_ORGANIZATION)
def replace_metadata(clerk: LocalClerk, given: MetadataReplacement, organization_id: str) -> Any:
    """Replace public or private metadata, or both: those that the request contains."""
    return _updated(clerk, organization_id, given.given())


def merge(stored: Any, given: MetadataChange) -> dict[str, Any]:
    """Return the merged metadata of a record; raise ApiError if the result is larger than 8 KB."""
    changes = {name: merged(getattr(stored, name) or {}, value) for name, value in given.given().items()}
    return MetadataChange.parse(changes).given()


def _updated(clerk: LocalClerk, organization_id: str, changes: dict[str, Any]) -> str:
    return clerk.serializer.organization(clerk.store.update_organization(organization_id, changes))


def _sorted(store: Store, order: tuple[str, bool]) -> list[Organization]:
    name, descending = order

    def key(row: Organization) -> tuple[Any, str]:
        return store.members_count(row.id) if name == "members_count" else getattr(row, name), row.id

    return sorted(store.organizations.values(), key=key, reverse=descending)


def _filter(clerk: LocalClerk, given: OrganizationPage) -> Callable[[Organization], bool] | None:
    ids, users, text = Signed(given.organization_id), Signed(given.user_id), given.query
    if not (ids or users or text):
        return None
    needle, members = (text or "").lower(), clerk.store.members

    def admits(row: Organization) -> bool:
        return (
            ids.admits(row.id)
            and users.admits(*members.get(row.id, ()))
            and (row.id == text or needle in row.name.lower() or needle in (row.slug or ""))
        )

    return admits
