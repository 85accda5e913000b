"""The instance, its organization settings and its keys."""

from dataclasses import replace
from typing import Any

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.parameters import (
    Parameters,
    Unacceptable,
    boolean,
    integer,
    optional,
    text,
    texts,
)
from clerk_integration.sandbox.records import InstanceSettings
from clerk_integration.sandbox.routes.api import API
from clerk_integration.sandbox.shapes import organization_settings_json

ENROLLMENT_MODES = frozenset({"manual_invitation", "automatic_invitation", "automatic_suggestion"})


def enrollment_modes(value: Any) -> tuple[str, ...]:
    """Return a list of ways in which users of a domain become members."""
    if not ENROLLMENT_MODES.issuperset(texts(value)):
        raise Unacceptable("must name modes of enrollment", "form_param_value_invalid")
    return tuple(value)


class OrganizationSettings(Parameters):
    """What can be changed of the organization settings."""

    enabled: bool | None = optional(boolean)
    max_allowed_memberships: int | None = optional(integer())
    admin_delete_enabled: bool | None = optional(boolean)
    domains_enabled: bool | None = optional(boolean)
    slug_disabled: bool | None = optional(boolean)
    domains_enrollment_modes: tuple[str, ...] | None = optional(enrollment_modes)
    creator_role_id: str | None = optional(text)
    domains_default_role_id: str | None = optional(text)


@API.route("GET", "/v1/jwks", unlimited=True)
@API.route("GET", "/.well-known/jwks.json", unlimited=True)
def get_jwks(clerk: LocalClerk) -> Any:
    """Serve the public keys."""
    return clerk.instance.tokens.jwks()


@API.route("GET", "/v1/instance")
def get_instance(clerk: LocalClerk) -> Any:
    """Serve the instance's id and kind."""
    return {
        "object": "instance",
        "id": clerk.instance.keys.instance_id,
        "environment_type": "production" if clerk.environment == "live" else "development",
        "allowed_origins": None,
        "workspace_id": None,
    }


@API.route("GET", "/v1/instance/organization_settings")
def get_organization_settings(clerk: LocalClerk) -> Any:
    """Serve the organization settings, also while organizations are disabled."""
    return organization_settings_json(clerk.store.settings)


@API.route("PATCH", "/v1/instance/organization_settings")
def update_organization_settings(clerk: LocalClerk, given: OrganizationSettings) -> Any:
    """Change organization settings; null leaves a setting as it is."""
    settings, changes = clerk.store.settings, given.given()
    for name in ("creator_role", "domains_default_role"):
        if (role_id := changes.pop(f"{name}_id", None)) is not None:
            changes[name] = _role_key(settings, role_id)
    clerk.store.settings = replace(settings, **changes)
    return organization_settings_json(clerk.store.settings)


def _role_key(settings: InstanceSettings, role_id: str) -> str:
    for role in settings.roles.values():
        if role.id == role_id:
            return role.key
    raise ApiError("resource_not_found", f"No role was found with id {role_id}.")
