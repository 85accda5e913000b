"""The control API under /sandbox: what a test or a person does to the local Clerk from outside.

| method and path                          | does                                                            |
| ---------------------------------------- | --------------------------------------------------------------- |
| GET `/sandbox`                           | shows a page                                                    |
| any method, `/sandbox/v1/...`            | calls one of Clerk's paths as by hand in the dashboard          |
| POST `/sandbox/session-tokens`           | signs a session token, see `TokenRequest`                       |
| POST `/sandbox/users`                    | creates a user, see `NewUser`                                   |
| GET, POST, DELETE `/sandbox/faults`      | shows, adds and clears what requests meet, see `Fault`          |
| POST `/sandbox/outages`                  | refuses connections for so many `seconds`, and ends open ones   |
| POST `/sandbox/records`                  | serves odd JSON for one record, see `RecordPatch`               |
| POST `/sandbox/settings`                 | changes how the instance behaves, see `SettingsChange`          |
| POST `/sandbox/instances`                | serves another instance at the same address, see `InstanceName` |
| GET, DELETE `/sandbox/requests`          | shows and forgets what was called                               |
| GET, POST `/sandbox/webhooks`            | shows and changes what befalls webhooks, see `WebhookOptions`   |
| GET, DELETE `/sandbox/webhooks/messages` | shows and forgets the messages with their bodies                |
| POST `/sandbox/webhooks/replay`          | sends one message again                                         |
| POST `/sandbox/reset`                    | returns to the start, or to another population                  |

For the odd things that Clerk may do:

| to show                                            | use                                                   |
| -------------------------------------------------- | ----------------------------------------------------- |
| a hanging Clerk                                    | a fault with `timeoutSeconds`, or `latencyMs`         |
| resets, a 429 storm, refused connections           | faults with `reset` or `rateLimit`; an outage         |
| an HTML 403 at the edge                            | a fault with `status`, `body` and `contentType`       |
| a list that grows or shrinks while it is read      | a fault with `then`                                   |
| an organization that answers 404 for a while       | a fault with `status` 404 and `times`                 |
| a wrong total, a page without `data`               | a fault with `patch`                                  |
| a record with missing or odd fields, long ids, NUL | `set` and `remove` of a record                        |
| a number of 4,400 digits, 1,100 nested lists       | `text` of a record                                    |
| another instance's keys and data                   | another instance                                      |
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from clerk_integration.sandbox import local_clerk
from clerk_integration.sandbox.deliveries import WebhookOptions
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.faults import Fault, seconds
from clerk_integration.sandbox.local_clerk import LocalClerk, Population
from clerk_integration.sandbox.messages import Reply
from clerk_integration.sandbox.page import render_page
from clerk_integration.sandbox.parameters import (
    ControlParameters,
    boolean,
    filled_text,
    integer,
    mapping,
    optional,
    required,
    text,
    texts,
)
from clerk_integration.sandbox.records import Patch, Role
from clerk_integration.sandbox.routing import CONTROL
from clerk_integration.sandbox.tokens import TokenRequest


def roles(value: Any) -> dict[str, Role]:
    """Return roles by key, given as lists of permissions."""
    return {key: Role(key, tuple(texts(permissions))) for key, permissions in mapping(value).items()}


class NewUser(ControlParameters):
    """A user to create."""

    id: str | None = optional(text)
    first_name: str | None = optional(text)
    last_name: str | None = optional(text)
    username: str | None = optional(text)
    email_address: str | None = optional(text)
    external_id: str | None = optional(text)
    banned: bool = optional(boolean, False)
    create_organizations_limit: int | None = optional(integer())


class SettingsChange(ControlParameters):
    """How the instance behaves; what is left out stays.

    Clerk's own organization settings are changed through /sandbox/v1/instance/organization_settings.
    """

    slugs: str | None = optional(local_clerk.slugs)
    null_slugs: bool | None = optional(boolean)
    membership_required: bool | None = optional(boolean)
    organization_quota: int | None = optional(integer())
    organizations_per_user: int | None = optional(integer())
    creator_role: str | None = optional(text)
    custom_roles: Mapping[str, Role] | None = optional(roles)
    """Lists of permissions by the key of the role."""
    latency_ms: float | None = optional(local_clerk.latency)
    rate_limit: str | None = optional(local_clerk.rate_limit)


class RecordPatch(ControlParameters):
    """JSON that Clerk's rules would not allow, served for one record until the next reset.

    `set` and `remove` change fields; `text` is served in the record's place, to the letter.
    """

    id: str = required(filled_text)
    set: Mapping[str, Any] | None = optional(mapping)
    remove: Sequence[str] = optional(texts, ())
    text: str | None = optional(text)


class InstanceName(ControlParameters):
    """An instance: made with keys of its own and without records when the name is new, "" for the first."""

    name: str = required(text)


class Outage(ControlParameters):
    """How long connections are refused."""

    seconds: float = required(seconds)


class WebhookChange(WebhookOptions):
    """What is left out stays; `rotateSecret` makes a new secret, which signs beside the one before it."""

    rotate_secret: bool = optional(boolean, False)


class MessageId(ControlParameters):
    """The message to send again."""

    id: str = required(filled_text)


@CONTROL.route("GET", "/sandbox")
def show_page(clerk: LocalClerk) -> Any:
    """Show the instance to a person."""
    return Reply(200, render_page(clerk).encode(), "text/html; charset=utf-8")


@CONTROL.route("POST", "/sandbox/session-tokens")
def create_session_token(clerk: LocalClerk, given: TokenRequest) -> Any:
    """Sign a session token."""
    store, organization_id = clerk.store, given.organization_id
    store.user(given.user_id)
    active = None
    if organization_id:
        membership = store.membership(organization_id, given.user_id)
        active = store.organization(organization_id), membership
    pending = store.settings.membership_required and active is None
    return {"jwt": clerk.instance.tokens.sign(given, active, pending=pending)}


@CONTROL.route("POST", "/sandbox/users")
def create_user(clerk: LocalClerk, given: NewUser) -> Any:
    """Create a user; the reply has Clerk's own shape."""
    return clerk.serializer.user(clerk.store.create_user(**given.given()))


@CONTROL.route("GET", "/sandbox/faults")
def list_faults(clerk: LocalClerk) -> Any:
    """Show the faults that wait."""
    return [fault.as_json() for fault in clerk.faults]


@CONTROL.route("POST", "/sandbox/faults")
def create_fault(clerk: LocalClerk, given: Fault) -> Any:
    """Let a fault wait for requests."""
    given.require_kind()
    clerk.faults.append(given)
    return given.as_json()


@CONTROL.route("DELETE", "/sandbox/faults")
def clear_faults(clerk: LocalClerk) -> Any:
    """Let no fault wait."""
    clerk.faults.clear()
    return []


@CONTROL.route("POST", "/sandbox/outages")
def begin_outage(clerk: LocalClerk, given: Outage) -> Any:
    """Refuse connections for a while, once this reply is sent."""
    return Reply(200, b"{}", after=lambda: clerk.refuse_connections(given.seconds))


@CONTROL.route("GET", "/sandbox/requests")
def list_requests(clerk: LocalClerk) -> Any:
    """Show what was called, oldest first."""
    return [entry.as_json() for entry in clerk.log]


@CONTROL.route("DELETE", "/sandbox/requests")
def clear_requests(clerk: LocalClerk) -> Any:
    """Forget what was called."""
    clerk.log.clear()
    return []


@CONTROL.route("POST", "/sandbox/settings")
def change_settings(clerk: LocalClerk, given: SettingsChange) -> Any:
    """Change how the instance behaves."""
    changes, settings = given.given(), clerk.store.settings
    changes["roles"] = {**settings.roles, **changes.pop("custom_roles", {})}
    if given.creator_role is not None and given.creator_role not in changes["roles"]:
        raise ApiError("form_param_value_invalid", "There is no such role.", param="creatorRole")
    if (slugs := changes.pop("slugs", None)) is not None:
        changes["slug_disabled"] = slugs == "disabled"
    clerk.latency_ms = changes.pop("latency_ms", clerk.latency_ms)
    clerk.limits.mode = changes.pop("rate_limit", clerk.limits.mode)
    clerk.store.settings = replace(settings, **changes)
    clerk.serializer.forget()
    return {}


@CONTROL.route("POST", "/sandbox/records")
def patch_record(clerk: LocalClerk, given: RecordPatch) -> Any:
    """Serve odd JSON for one record."""
    clerk.store.patches[given.id] = Patch(given.set or {}, frozenset(given.remove), given.text)
    return {}


@CONTROL.route("POST", "/sandbox/instances")
def use_instance(clerk: LocalClerk, given: InstanceName) -> Any:
    """Serve another instance from now on; the reply is what its clients need to know."""
    return clerk.use_instance(given.name).description


@CONTROL.route("POST", "/sandbox/reset")
def reset(clerk: LocalClerk, given: Population) -> Any:
    """Return to the start, or to another population when one is described; the keys stay."""
    clerk.reset(given if given.given() else None)
    return {}


@CONTROL.route("GET", "/sandbox/webhooks")
def show_webhooks(clerk: LocalClerk) -> Any:
    """Show the options and counts of webhooks and every message with its attempts, without its body."""
    messages = [message.summary() for message in clerk.instance.deliveries.messages()]
    return _webhooks(clerk) | {"messages": messages}


@CONTROL.route("POST", "/sandbox/webhooks")
def change_webhooks(clerk: LocalClerk, given: WebhookChange) -> Any:
    """Change what befalls webhooks; the reply carries a rotated secret."""
    changes = given.given()
    changes.pop("rotate_secret", None)
    clerk.instance.deliveries.configure(changes)
    if not given.rotate_secret:
        return _webhooks(clerk)
    return _webhooks(clerk) | {"webhookSigningSecret": clerk.instance.deliveries.rotate_secret()}


@CONTROL.route("GET", "/sandbox/webhooks/messages")
def list_messages(clerk: LocalClerk) -> Any:
    """Show every message with its body, oldest first."""
    return f"[{','.join(message.text() for message in clerk.instance.deliveries.messages())}]"


@CONTROL.route("DELETE", "/sandbox/webhooks/messages")
def clear_messages(clerk: LocalClerk) -> Any:
    """Forget every message, also those that were not sent yet."""
    clerk.instance.deliveries.clear()
    return []


@CONTROL.route("POST", "/sandbox/webhooks/replay")
def replay_message(clerk: LocalClerk, given: MessageId) -> Any:
    """Send one message again, under its own id."""
    message = clerk.instance.deliveries.replay(given.id)
    if message is None:
        raise ApiError("resource_not_found", f"No message is known with id {given.id}.")
    return message.summary()


def _webhooks(clerk: LocalClerk) -> dict[str, Any]:
    deliveries = clerk.instance.deliveries
    return deliveries.options.as_json() | {"counts": deliveries.counts()}
