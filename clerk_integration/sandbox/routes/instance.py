"""Endpoints for the instance, its organization settings and its public keys."""

from dataclasses import replace
from typing import Any

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.parameters import Parameters, boolean, integer, optional, text
from clerk_integration.sandbox.records import InstanceSettings
from clerk_integration.sandbox.routing import API
from clerk_integration.sandbox.shapes import organization_settings_json


class OrganizationSettings(Parameters):
    """The organization settings that a client can change."""

    enabled: bool | None = optional(boolean)
    max_allowed_memberships: int | None = optional(integer())
    admin_delete_enabled: bool | None = optional(boolean)
    slug_disabled: bool | None = optional(boolean)
    creator_role_id: str | None = optional(text)


@API.route("GET", "/v1/jwks", unlimited=True)
@API.route("GET", "/.well-known/jwks.json", unlimited=True)
def get_jwks(clerk: LocalClerk) -> Any:
    """Serve the public keys."""
    return clerk.instance.tokens.jwks()


@API.route("GET", "/v1/instance")
def get_instance(clerk: LocalClerk) -> Any:
    """Serve the id and the environment type of the instance."""
    return {
        "object": "instance",
        "id": clerk.instance.keys.instance_id,
        "environment_type": "production" if clerk.environment == "live" else "development",
        "allowed_origins": None,
        "workspace_id": None,
    }


@API.route("GET", "/v1/instance/organization_settings")
def get_organization_settings(clerk: LocalClerk) -> Any:
    """Serve the organization settings, even if organizations are disabled."""
    return organization_settings_json(clerk.store.settings)


@API.route("PATCH", "/v1/instance/organization_settings")
def update_organization_settings(clerk: LocalClerk, given: OrganizationSettings) -> Any:
    """Change organization settings; null means no change."""
    settings, changes = clerk.store.settings, given.given()
    if (role_id := changes.pop("creator_role_id", None)) is not None:
        changes["creator_role"] = _role_key(settings, role_id)
    clerk.store.settings = replace(settings, **changes)
    return organization_settings_json(clerk.store.settings)


def _role_key(settings: InstanceSettings, role_id: str) -> str:
    for role in settings.roles.values():
        if role.id == role_id:
            return role.key
    raise ApiError("resource_not_found", f"No role was found with id {role_id}.")
