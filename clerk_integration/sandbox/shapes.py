"""Clerk's wire shapes: the only place that knows how a record looks as JSON.

Records never change themselves, so the JSON of each is kept until another record takes its id; a page
of 500 memberships is then little more than joining strings.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.records import (
    InstanceSettings,
    Membership,
    MembershipView,
    Organization,
    RawPatch,
    User,
)
from clerk_integration.sandbox.store import Store

Record = TypeVar("Record", User, Organization, Membership)

IMAGE_URL = "https://img.clerk.com/sandbox"

_NOT_KEPT: Mapping[str, Any] = {
    "primary_phone_number_id": None,
    "primary_web3_wallet_id": None,
    "locale": None,
    "phone_numbers": [],
    "web3_wallets": [],
    "passkeys": [],
    "external_accounts": [],
    "saml_accounts": [],
    "enterprise_accounts": [],
    "password_enabled": False,
    "password_last_updated_at": None,
    "two_factor_enabled": False,
    "totp_enabled": False,
    "backup_code_enabled": False,
    "mfa_enabled_at": None,
    "mfa_disabled_at": None,
    "locked": False,
    "lockout_expires_in_seconds": None,
    "verification_attempts_remaining": None,
    "deprovisioned": False,
    "last_sign_in_at": None,
    "last_active_at": None,
    "legal_accepted_at": None,
}
"""Fields of a user that are the same for every user here."""


def dump(value: Any) -> str:
    """Compact JSON in ASCII, so that any string that came in can go out again."""
    return json.dumps(value, separators=(",", ":"))


class Serializer:
    """Turns records into JSON text, raw patches of the store applied."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: dict[tuple[str, str], tuple[object, RawPatch | None, str]] = {}

    def organization(self, record: Organization, *, members_count: bool = False) -> str:
        """One organization; `members_count` only on request, as Clerk does it."""
        text = self._cached("organization", record, organization_json)
        if not members_count:
            return text
        return f'{text[:-1]},"members_count":{self._store.members_count(record.id)}}}'

    def organizations(self, page: Iterable[Organization], total: int, *, members_count: bool = False) -> str:
        """A page of organizations."""
        return _page((self.organization(record, members_count=members_count) for record in page), total)

    def membership(self, view: MembershipView) -> str:
        """One membership with its organization and its user's public data nested."""
        patch = self._store.raw_patches.get(view.membership.id)
        organization = self.organization(view.organization)
        if patch is not None:
            fields = membership_json(view.membership, self._store.settings) | {
                "organization": json.loads(organization),
                "public_user_data": public_user_data_json(view.user),
            }
            return dump(_patched(fields, patch))
        own = self._cached(
            "membership", view.membership, lambda row: membership_json(row, self._store.settings)
        )
        user = self._cached("public_user_data", view.user, public_user_data_json)
        return f'{own[:-1]},"organization":{organization},"public_user_data":{user}}}'

    def memberships(self, page: Iterable[MembershipView], total: int) -> str:
        """A page of memberships."""
        return _page((self.membership(view) for view in page), total)

    def user(self, record: User) -> str:
        """One user."""
        return self._cached("user", record, user_json)

    def users(self, page: Iterable[User]) -> str:
        """A page of users: a bare list, without a total."""
        return f"[{','.join(map(self.user, page))}]"

    def forget(self) -> None:
        """Drop every kept JSON, after the instance's roles or its whole population changed."""
        self._cache = {}

    def _cached(self, kind: str, record: Record, shape: Callable[[Record], dict[str, Any]]) -> str:
        patch = None if kind == "public_user_data" else self._store.raw_patches.get(record.id)
        kept = self._cache.get((kind, record.id))
        if kept is not None and kept[0] is record and kept[1] is patch:
            return kept[2]
        text = dump(_patched(shape(record), patch) if patch else shape(record))
        self._cache[(kind, record.id)] = (record, patch, text)
        return text


def _page(items: Iterable[str], total: int) -> str:
    return f'{{"data":[{",".join(items)}],"total_count":{total}}}'


def _patched(fields: dict[str, Any], patch: RawPatch) -> dict[str, Any]:
    return {key: value for key, value in {**fields, **patch.changed}.items() if key not in patch.removed}


def organization_json(record: Organization) -> dict[str, Any]:
    """An organization as the Backend API shows it, private metadata included."""
    return {
        "object": "organization",
        "id": record.id,
        "name": record.name,
        "slug": record.slug,
        "image_url": f"{IMAGE_URL}/{record.id}",
        "has_image": False,
        "max_allowed_memberships": record.max_allowed_memberships,
        "admin_delete_enabled": record.admin_delete_enabled,
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        **({"created_by": record.created_by} if record.created_by else {}),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "role_set_key": "role_set:default",
    }


def membership_json(record: Membership, settings: InstanceSettings) -> dict[str, Any]:
    """A membership's own fields, without the two records nested in it."""
    role = settings.roles.get(record.role)
    return {
        "object": "organization_membership",
        "id": record.id,
        "role": record.role,
        "role_name": role.name if role else record.role,
        "permissions": list(role.permissions) if role else [],
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def public_user_data_json(record: User) -> dict[str, Any]:
    """What a membership shows of its user."""
    return {
        "user_id": record.id,
        "first_name": record.first_name,
        "last_name": record.last_name,
        "profile_image_url": f"{IMAGE_URL}/{record.id}",
        "image_url": f"{IMAGE_URL}/{record.id}",
        "has_image": False,
        "identifier": record.email_address or record.username,
        "username": record.username,
        "banned": record.banned,
        "deprovisioned": False,
    }


def user_json(record: User) -> dict[str, Any]:
    """A user as the Backend API shows it; whatever the sandbox does not keep is empty."""
    emails = [_email_address_json(record, record.email_address)] if record.email_address else []
    return {
        "object": "user",
        "id": record.id,
        "external_id": record.external_id,
        "username": record.username,
        "first_name": record.first_name,
        "last_name": record.last_name,
        "profile_image_url": f"{IMAGE_URL}/{record.id}",
        "image_url": f"{IMAGE_URL}/{record.id}",
        "has_image": False,
        "primary_email_address_id": emails[0]["id"] if emails else None,
        "email_addresses": emails,
        "public_metadata": record.public_metadata,
        "private_metadata": record.private_metadata,
        "unsafe_metadata": {},
        "banned": record.banned,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "create_organizations_limit": record.create_organizations_limit,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        **_NOT_KEPT,
    }


def _email_address_json(record: User, email_address: str) -> dict[str, Any]:
    return {
        "object": "email_address",
        "id": f"idn_{record.id.removeprefix('user_')}",
        "email_address": email_address,
        "reserved": False,
        "verification": {
            "object": "verification_admin",
            "status": "verified",
            "strategy": "admin",
            "attempts": None,
            "expire_at": None,
        },
        "linked_to": [],
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def deleted_organization_json(record: Organization) -> dict[str, Any]:
    """The answer to a deletion."""
    return {
        "object": "organization",
        "id": record.id,
        **({"slug": record.slug} if record.slug else {}),
        "deleted": True,
    }


def deleted_user_json(record: User) -> dict[str, Any]:
    """The answer to a deletion."""
    return {
        "object": "user",
        "id": record.id,
        **({"external_id": record.external_id} if record.external_id else {}),
        "deleted": True,
    }


def instance_json(instance_id: str, environment_type: str) -> dict[str, Any]:
    """The instance itself."""
    return {
        "object": "instance",
        "id": instance_id,
        "environment_type": environment_type,
        "allowed_origins": None,
        "workspace_id": None,
    }


def organization_settings_json(settings: InstanceSettings) -> dict[str, Any]:
    """The instance's organization settings."""
    return {
        "object": "organization_settings",
        "enabled": settings.enabled,
        "max_allowed_memberships": settings.max_allowed_memberships,
        "max_allowed_roles": 10,
        "max_role_sets_allowed": 1,
        "max_allowed_domains": 10,
        "creator_role": settings.creator_role,
        "admin_delete_enabled": settings.admin_delete_enabled,
        "domains_enabled": settings.domains_enabled,
        "domains_enrollment_modes": list(settings.domains_enrollment_modes),
        "domains_default_role": settings.domains_default_role,
        "slug_disabled": settings.slug_disabled,
        "initial_role_set_key": "role_set:default",
    }


def total_count_json(total: int) -> dict[str, Any]:
    """The answer to a count."""
    return {"object": "total_count", "total_count": total}


def error_json(error: ApiError, trace_id: str) -> dict[str, Any]:
    """Clerk's error body."""
    return {
        "errors": [
            {
                "message": error.message,
                "long_message": error.detail,
                "code": error.code,
                **({"meta": error.meta} if error.meta else {}),
            }
        ],
        "clerk_trace_id": trace_id,
    }
