"""The instance, its organization settings and its keys."""

from typing import Any

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.records import InstanceSettings
from clerk_integration.sandbox.routing import Route
from clerk_integration.sandbox.shapes import instance_json, organization_settings_json

ENROLLMENT_MODES = frozenset({"manual_invitation", "automatic_invitation", "automatic_suggestion"})


def get_jwks(clerk: LocalClerk, request: Request) -> Reply:
    """Serve the public keys."""
    request.parameters()
    return Reply.json(clerk.tokens.jwks())


def get_instance(clerk: LocalClerk, request: Request) -> Reply:
    """Serve the instance's id and kind."""
    request.parameters()
    return Reply.json(instance_json(clerk.instance_id, clerk.environment_type))


def get_organization_settings(clerk: LocalClerk, request: Request) -> Reply:
    """Serve the organization settings; also while organizations are disabled."""
    request.parameters()
    return Reply.json(organization_settings_json(clerk.store.settings))


def update_organization_settings(clerk: LocalClerk, request: Request) -> Reply:
    """Change organization settings; null leaves a setting as it is."""
    body = request.body(
        "enabled",
        "max_allowed_memberships",
        "admin_delete_enabled",
        "domains_enabled",
        "slug_disabled",
        "domains_enrollment_modes",
        "creator_role_id",
        "domains_default_role_id",
    )
    modes = body.texts("domains_enrollment_modes")
    if modes is not None and not ENROLLMENT_MODES.issuperset(modes):
        raise ApiError("form_param_value_invalid", param="domains_enrollment_modes")
    settings = clerk.store.settings
    wanted: dict[str, Any] = {
        "enabled": body.boolean("enabled"),
        "max_allowed_memberships": body.integer("max_allowed_memberships"),
        "admin_delete_enabled": body.boolean("admin_delete_enabled"),
        "domains_enabled": body.boolean("domains_enabled"),
        "slug_disabled": body.boolean("slug_disabled"),
        "domains_enrollment_modes": None if modes is None else tuple(modes),
        "creator_role": _role_key(settings, body.text("creator_role_id")),
        "domains_default_role": _role_key(settings, body.text("domains_default_role_id")),
    }
    changes = {name: value for name, value in wanted.items() if value is not None}
    return Reply.json(organization_settings_json(clerk.store.change_settings(changes)))


def _role_key(settings: InstanceSettings, role_id: str | None) -> str | None:
    if role_id is None:
        return None
    for role in settings.roles.values():
        if role.id == role_id:
            return role.key
    raise ApiError("resource_not_found", f"No role was found with id {role_id}.")


ROUTES = (
    Route("GET", "/v1/jwks", get_jwks, unlimited=True),
    Route("GET", "/.well-known/jwks.json", get_jwks, public=True, unlimited=True),
    Route("GET", "/v1/instance", get_instance),
    Route("GET", "/v1/instance/organization_settings", get_organization_settings),
    Route("PATCH", "/v1/instance/organization_settings", update_organization_settings),
)
