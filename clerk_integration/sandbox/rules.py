"""What Clerk refuses, as functions of the stored records and the instance's settings."""

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.records import InstanceSettings, Membership, Organization
from clerk_integration.sandbox.tables import Tables


def require_organizations_enabled(settings: InstanceSettings) -> None:
    """Raise `organization_not_enabled_in_instance` while the feature is off."""
    if not settings.enabled:
        raise ApiError("organization_not_enabled_in_instance")


def require_slug_allowed(settings: InstanceSettings, slug: str | None) -> None:
    """Raise `organization_slugs_disabled` when a slug is sent to an instance without slugs."""
    if slug is not None and settings.slug_disabled:
        raise ApiError("organization_slugs_disabled")


def require_slug_free(tables: Tables, slug: str | None) -> None:
    """Raise `form_identifier_exists` when an organization has this slug."""
    if slug in tables.organization_by_slug:
        raise ApiError("form_identifier_exists", f"The slug {slug} is taken.", param="slug")


def require_room_for_organization(tables: Tables, settings: InstanceSettings, created_by: str | None) -> None:
    """Raise when the creator is unknown, or the instance or the creator has reached its limit."""
    quota = settings.organization_quota
    if quota and len(tables.organizations) >= quota:
        raise ApiError("organization_quota_exceeded", f"The instance may hold {quota} organizations.")
    if created_by is None:
        return
    creator = tables.users.get(created_by)
    if creator is None:
        raise ApiError("organization_creator_not_found", f"No user was found with id {created_by}.")
    limit = creator.create_organizations_limit
    if limit is None:
        limit = settings.organizations_per_user
    if limit and sum(row.created_by == created_by for row in tables.organizations.values()) >= limit:
        raise ApiError("org_creation_limit_exceeded", f"The user may create {limit} organizations.")


def require_room_for_member(tables: Tables, organization: Organization, user_id: str) -> None:
    """Raise when the user is a member already, or the organization is full."""
    members = tables.members.get(organization.id, {})
    if user_id in members:
        raise ApiError("already_a_member_in_organization", f"User {user_id} is a member already.")
    quota = organization.max_allowed_memberships
    if quota and len(members) >= quota:
        raise ApiError(
            "organization_membership_quota_exceeded",
            f"The organization may have {quota} members and has {len(members)}.",
        )


def require_other_admin(tables: Tables, settings: InstanceSettings, membership: Membership) -> None:
    """Raise `organization_minimum_permissions_needed` when this is the last member who may manage."""
    elevated = {key for key, role in settings.roles.items() if role.is_elevated}
    if membership.role not in elevated:
        return
    others = tables.members[membership.organization_id].values()
    if not any(row.id != membership.id and row.role in elevated for row in others):
        raise ApiError("organization_minimum_permissions_needed")
