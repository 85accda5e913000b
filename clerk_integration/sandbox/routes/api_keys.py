"""Endpoints for API keys: verify and revoke; the control API creates them."""

import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from clerk_integration.sandbox import parameters
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.parameters import ControlParameters, Parameters, optional, required
from clerk_integration.sandbox.records import ApiKey
from clerk_integration.sandbox.routing import API, CONTROL


class NewApiKey(ControlParameters):
    """A key to create. `subject` is the id of the user or organization that the key acts for."""

    subject: str = required(parameters.filled_text)
    name: str = optional(parameters.filled_text, "Key")
    scopes: Sequence[str] = optional(parameters.texts, ())
    seconds_until_expiration: float | None = optional(parameters.number())


class Revocation(Parameters):
    """Why a key is revoked."""

    revocation_reason: str | None = optional(parameters.text)


class Secret(Parameters):
    """The secret of a key, as its client sends it."""

    secret: str = required(parameters.filled_text)


@CONTROL.route("POST", "/sandbox/api-keys")
def create_api_key(clerk: LocalClerk, given: NewApiKey) -> Any:
    """Create a key. Only this reply holds its secret."""
    now, seconds = clerk.store.clock.next(), given.seconds_until_expiration
    key = ApiKey(
        id=f"ak_{secrets.token_hex(16)}",
        secret=f"ak_{secrets.token_urlsafe(32)}",
        name=given.name,
        subject=given.subject,
        scopes=tuple(given.scopes),
        created_at=now,
        updated_at=now,
        expiration=None if seconds is None else now + round(seconds * 1000),
    )
    clerk.store.api_keys[key.id] = key
    return {**_shape(clerk, key), "secret": key.secret}


@API.route("POST", "/v1/api_keys/verify")
def verify_api_key(clerk: LocalClerk, given: Secret) -> Any:
    """Serve the key with this secret, also if it is revoked or has expired."""
    for key in clerk.store.api_keys.values():
        if secrets.compare_digest(key.secret.encode(), given.secret.encode()):
            return _shape(clerk, key)
    raise ApiError("resource_not_found", "No API key was found with this secret.")


@API.route("POST", "/v1/api_keys/{apiKeyID}/revoke")
def revoke_api_key(clerk: LocalClerk, given: Revocation, apiKeyID: str) -> Any:  # noqa: N803  (Clerk's name)
    """Revoke a key."""
    key = clerk.store.api_keys.get(apiKeyID)
    if key is None:
        raise ApiError("resource_not_found", f"No API key was found with id {apiKeyID}.")
    revoked = replace(
        key,
        revoked=True,
        revocation_reason=given.revocation_reason,
        updated_at=clerk.store.clock.next(),
    )
    clerk.store.api_keys[key.id] = revoked
    return _shape(clerk, revoked)


def _shape(clerk: LocalClerk, key: ApiKey) -> dict[str, Any]:
    fields = asdict(key)
    del fields["secret"]
    has_expired = key.expiration is not None and key.expiration <= clerk.store.clock.next()
    return {
        **fields,
        "object": "api_key",
        "scopes": list(key.scopes),
        "expired": has_expired,
        "last_used_at": None,
    }
