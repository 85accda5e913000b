"""Convert records to Clerk's JSON.

Records are immutable. Therefore the JSON of a record is cached until another record with the same id replaces
the record. A page of 500 memberships then mostly joins cached strings.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.records import (
    AnyRecord,
    InstanceSettings,
    Membership,
    Organization,
    Patch,
    Record,
    User,
)
from clerk_integration.sandbox.store import Store

IMAGE_URL = "https://img.clerk.com/sandbox"
ROLE_SET = "role_set:default"

_NOT_KEPT: Mapping[str, Any] = {
    **dict.fromkeys(("phone_numbers", "web3_wallets", "passkeys", "external_accounts"), ()),
    **dict.fromkeys(("saml_accounts", "enterprise_accounts"), ()),
    **dict.fromkeys(("password_enabled", "two_factor_enabled", "totp_enabled"), False),
    **dict.fromkeys(("backup_code_enabled", "locked", "deprovisioned", "has_image"), False),
    **dict.fromkeys(("primary_phone_number_id", "primary_web3_wallet_id", "locale"), None),
    **dict.fromkeys(("password_last_updated_at", "mfa_enabled_at", "mfa_disabled_at"), None),
    **dict.fromkeys(("lockout_expires_in_seconds", "verification_attempts_remaining"), None),
    **dict.fromkeys(("last_sign_in_at", "last_active_at", "legal_accepted_at"), None),
}
"""Fields that have the same value for every user of the sandbox."""

_EVENT_ATTRIBUTES = '{"http_request":{"client_ip":"127.0.0.1","user_agent":"clerk-sandbox"}}'


def dump(value: Any) -> str:
    """Return compact JSON in ASCII, so that a string with lone surrogates can be encoded, too."""
    return json.dumps(value, separators=(",", ":"))


def _pick(record: Record, names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names.split()}


class Serializer:
    """Converts records to JSON text and applies the patches of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[tuple[str, str], tuple[object, str]] = {}

    def organization(self, record: Organization, *, members_count: bool = False) -> str:
        """Return one organization as JSON. Like Clerk, add `members_count` on request only."""
        text = self._text("organization", record, organization_json)
        if members_count and text.endswith("}"):
            return f'{text[:-1]},"members_count":{self._store.members_count(record.id)}}}'
        return text

    def organizations(self, page: Iterable[Organization], total: int, *, members_count: bool = False) -> str:
        """Return a page of organizations as the JSON of Clerk's reply."""
        return _page((self.organization(record, members_count=members_count) for record in page), total)

    def membership(self, record: Membership) -> str:
        """Return one membership as JSON, with its organization and the public data of its user."""
        user = self._store.users[record.user_id]
        organization = self.organization(self._store.organizations[record.organization_id])
        public_user_data = self._keep("public_user_data", user, public_user_data_json)
        patch = self._store.patches.get(record.id)
        if patch is not None:
            nested = {"organization": organization, "public_user_data": public_user_data}
            return _patched(self._membership_json(record), patch, nested)
        own = self._keep("membership", record, self._membership_json)
        return f'{own[:-1]},"organization":{organization},"public_user_data":{public_user_data}}}'

    def memberships(self, page: Iterable[Membership], total: int) -> str:
        """Return a page of memberships."""
        return _page(map(self.membership, page), total)

    def user(self, record: User) -> str:
        """Return one user."""
        return self._text("user", record, user_json)

    def users(self, page: Iterable[User]) -> str:
        """Return a page of users as a JSON array, without a total."""
        return f"[{','.join(map(self.user, page))}]"

    def event(self, event_type: str, record: Record, timestamp: int, instance_id: str) -> str:
        """Return the body of a webhook. The order of its members is the same as in Clerk's webhooks.

        Call this method during the change, so that the body holds the state right after the change.
        """
        deleted = event_type.endswith(".deleted")
        return (
            f'{{"data":{self._event_data(record, deleted)},"event_attributes":{_EVENT_ATTRIBUTES},'
            f'"instance_id":{dump(instance_id)},"object":"event",'
            f'"timestamp":{timestamp},"type":{dump(event_type)}}}'
        )

    def forget(self) -> None:
        """Clear the cache. Call this method after a change of the instance's roles."""
        self._kept = {}

    def _event_data(self, record: Record, deleted: bool) -> str:
        """Return the JSON of the record, or Clerk's deleted object for a deleted organization or user."""
        if isinstance(record, Membership):
            return self.membership(record)
        if deleted:
            return dump(deleted_json(record))
        if isinstance(record, Organization):
            return self.organization(record, members_count=True)
        return self.user(record)

    def _membership_json(self, record: Membership) -> dict[str, Any]:
        return membership_json(record, self._store.settings)

    def _text(self, kind: str, record: AnyRecord, shape: Callable[[AnyRecord], dict[str, Any]]) -> str:
        patch = self._store.patches.get(record.id)
        return _patched(shape(record), patch) if patch else self._keep(kind, record, shape)

    def _keep(self, kind: str, record: AnyRecord, shape: Callable[[AnyRecord], dict[str, Any]]) -> str:
        kept = self._kept.get((kind, record.id))
        if kept is None or kept[0] is not record:
            kept = self._kept[(kind, record.id)] = (record, dump(shape(record)))
        return kept[1]


def _page(items: Iterable[str], total: int) -> str:
    return f'{{"data":[{",".join(items)}],"total_count":{total}}}'


def _patched(fields: Mapping[str, Any], patch: Patch, nested: Mapping[str, str] | None = None) -> str:
    """Return the JSON of a record with the patch applied. The values in `nested` are JSON text."""
    if patch.text is not None:
        return patch.text
    texts = {name: dump(value) for name, value in fields.items()} | dict(nested or {})
    texts |= {name: dump(value) for name, value in patch.changed.items()}
    members = (f"{dump(name)}:{text}" for name, text in texts.items() if name not in patch.removed)
    return f"{{{','.join(members)}}}"


def organization_json(record: Organization) -> dict[str, Any]:
    """Return an organization as the Backend API returns it, with private metadata."""
    return {
        "object": "organization",
        **_pick(record, "id name slug max_allowed_memberships admin_delete_enabled"),
        **_pick(record, "public_metadata private_metadata created_at updated_at"),
        **({"created_by": record.created_by} if record.created_by else {}),
        "image_url": f"{IMAGE_URL}/{record.id}",
        "has_image": False,
        "role_set_key": ROLE_SET,
    }


def membership_json(record: Membership, settings: InstanceSettings) -> dict[str, Any]:
    """Return the fields of a membership, without the nested organization and user."""
    role = settings.roles.get(record.role)
    return {
        "object": "organization_membership",
        **_pick(record, "id role public_metadata private_metadata created_at updated_at"),
        "role_name": role.name if role else record.role,
        "permissions": role.permissions if role else (),
    }


def public_user_data_json(record: User) -> dict[str, Any]:
    """Return the public data of the user of a membership."""
    return {
        "user_id": record.id,
        **_pick(record, "first_name last_name username banned"),
        "profile_image_url": f"{IMAGE_URL}/{record.id}",
        "image_url": f"{IMAGE_URL}/{record.id}",
        "has_image": False,
        "identifier": record.email_address or record.username,
        "deprovisioned": False,
    }


def user_json(record: User) -> dict[str, Any]:
    """Return a user as the Backend API returns it. Fields that the sandbox does not store are empty."""
    emails = [_email_address_json(record)] if record.email_address else []
    return {
        "object": "user",
        **_pick(record, "id external_id username first_name last_name banned"),
        **_pick(record, "public_metadata private_metadata create_organizations_limit created_at updated_at"),
        "profile_image_url": f"{IMAGE_URL}/{record.id}",
        "image_url": f"{IMAGE_URL}/{record.id}",
        "primary_email_address_id": emails[0]["id"] if emails else None,
        "email_addresses": emails,
        "unsafe_metadata": {},
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        **_NOT_KEPT,
    }


def _email_address_json(record: User) -> dict[str, Any]:
    return {
        "object": "email_address",
        "id": f"idn_{record.id.removeprefix('user_')}",
        **_pick(record, "email_address created_at updated_at"),
        "reserved": False,
        "verification": {
            "object": "verification_admin",
            "status": "verified",
            "strategy": "admin",
            "attempts": None,
            "expire_at": None,
        },
        "linked_to": [],
    }


def deleted_json(record: User | Organization) -> dict[str, Any]:
    """Return the deleted object for an organization or user, as Clerk does."""
    if isinstance(record, User):
        kind, name, value = "user", "external_id", record.external_id
    else:
        kind, name, value = "organization", "slug", record.slug
    return {"object": kind, "id": record.id, **({name: value} if value else {}), "deleted": True}


def organization_settings_json(settings: InstanceSettings) -> dict[str, Any]:
    """Return the instance's organization settings."""
    return {
        "object": "organization_settings",
        "enabled": settings.enabled,
        "max_allowed_memberships": settings.max_allowed_memberships,
        "max_allowed_roles": 10,
        "max_role_sets_allowed": 1,
        "max_allowed_domains": 10,
        "creator_role": settings.creator_role,
        "admin_delete_enabled": settings.admin_delete_enabled,
        "domains_enabled": False,
        "domains_enrollment_modes": [],
        "domains_default_role": "org:member",
        "slug_disabled": settings.slug_disabled,
        "initial_role_set_key": ROLE_SET,
    }


def error_json(error: ApiError, trace_id: str) -> dict[str, Any]:
    """Return the body of an error response in Clerk's format."""
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
