"""The control API under /sandbox, through which a test or a person controls the local Clerk.

| method and path                          | does                                                            |
| ---------------------------------------- | --------------------------------------------------------------- |
| GET `/sandbox`                           | shows an HTML page                                              |
| any method, `/sandbox/v1/...`            | calls Clerk's API, like a change in Clerk's dashboard           |
| POST `/sandbox/session-tokens`           | signs a session token, see `TokenRequest`                       |
| POST `/sandbox/users`                    | creates a user, see `NewUser`                                   |
| POST `/sandbox/api-keys`                 | creates an API key, see `NewApiKey`                             |
| GET, POST, DELETE `/sandbox/faults`      | shows, adds and deletes faults of requests, see `Fault`         |
| POST `/sandbox/outages`                  | closes all connections, and refuses new ones for `seconds`      |
| POST `/sandbox/records`                  | changes the JSON of one record, see `RecordPatch`               |
| POST `/sandbox/settings`                 | changes the settings of the instance, see `SettingsChange`      |
| POST `/sandbox/instances`                | switches to another instance, see `InstanceName`                |
| GET, DELETE `/sandbox/requests`          | shows and deletes the log of requests to Clerk's API            |
| GET, POST `/sandbox/webhooks`            | shows and changes the delivery options, see `WebhookOptions`    |
| GET, DELETE `/sandbox/webhooks/messages` | shows and deletes the messages with their bodies                |
| POST `/sandbox/webhooks/replay`          | sends one message again                                         |
| POST `/sandbox/reset`                    | restores the first records, or creates others, see `Population` |

Ways to simulate unusual behaviour of Clerk:

| to simulate                                        | use                                                   |
| -------------------------------------------------- | ----------------------------------------------------- |
| a Clerk that does not answer                       | a fault with `timeoutSeconds`, or `latencyMs`         |
| connection resets, many 429, refused connections   | faults with `reset` or `rateLimit`; an outage         |
| an HTML 403 from a proxy before Clerk              | a fault with `status`, `body` and `contentType`       |
| a list that changes between two of its pages       | a fault with `then`                                   |
| an organization that answers 404 for a while       | a fault with `status` 404 and `times`                 |
| a wrong total, a page without `data`               | a fault with `patch`                                  |
| a record with missing fields, wrong types, NUL     | `set` and `remove` of a record                        |
| a number of 4,400 digits, 1,100 nested lists       | `text` of a record                                    |
| another instance's keys and data                   | another instance                                      |
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from clerk_integration.sandbox import local_clerk
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.faults import Fault, seconds
from clerk_integration.sandbox.local_clerk import LocalClerk, Population
from clerk_integration.sandbox.messages import Reply
from clerk_integration.sandbox.page import render_page
from clerk_integration.sandbox.parameters import (
    ControlParameters,
    Unacceptable,
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
from clerk_integration.sandbox.webhook_options import WebhookOptions


def roles(value: Any) -> dict[str, Role]:
    """Return the roles by key. `value` holds a list of permissions for each key."""
    return {key: Role(key, tuple(texts(permissions))) for key, permissions in mapping(value).items()}


def user_id(value: Any) -> Any:
    """Return the id; raise Unacceptable if it does not begin with `user_`, as Clerk's ids of users do."""
    if not filled_text(value).startswith("user_"):
        raise Unacceptable("must begin with user_")
    return value


class NewUser(ControlParameters):
    """A user to create. An `id` begins with `user_`."""

    id: str | None = optional(user_id)
    first_name: str | None = optional(text)
    last_name: str | None = optional(text)
    username: str | None = optional(text)
    email_address: str | None = optional(text)
    external_id: str | None = optional(text)
    banned: bool = optional(boolean, False)
    create_organizations_limit: int | None = optional(integer())


class SettingsChange(ControlParameters):
    """Changes of the instance's settings. A setting that is left out keeps its value.

    To change Clerk's own organization settings, use /sandbox/v1/instance/organization_settings.
    """

    slugs: str | None = optional(local_clerk.slugs)
    null_slugs: bool | None = optional(boolean)
    membership_required: bool | None = optional(boolean)
    organization_quota: int | None = optional(integer())
    organizations_per_user: int | None = optional(integer())
    creator_role: str | None = optional(text)
    custom_roles: Mapping[str, Role] | None = optional(roles)
    """A list of permissions for each role key."""
    latency_ms: float | None = optional(local_clerk.latency)
    rate_limit: str | None = optional(local_clerk.rate_limit)


class RecordPatch(ControlParameters):
    """A change to the JSON of one record, until the next reset. The JSON need not follow Clerk's rules.

    `set` and `remove` change fields. `text` replaces the JSON of the record, byte for byte.
    """

    id: str = required(filled_text)
    set: Mapping[str, Any] | None = optional(mapping)
    remove: Sequence[str] = optional(texts, ())
    text: str | None = optional(text)


class InstanceName(ControlParameters):
    """The name of an instance; "" names the first. For a new name, create an instance with new keys."""

    name: str = required(text)


class Outage(ControlParameters):
    """The number of seconds for which the server refuses connections."""

    seconds: float = required(seconds)


class WebhookChange(WebhookOptions):
    """Changes of the options. `rotateSecret` creates a new secret; the previous secret signs, too."""

    rotate_secret: bool = optional(boolean, False)


class MessageId(ControlParameters):
    """The message to send again."""

    id: str = required(filled_text)


@CONTROL.route("GET", "/sandbox")
def show_page(clerk: LocalClerk) -> Any:
    """Serve the HTML page about the instance."""
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
    """List the faults that later requests will meet."""
    return [fault.as_json() for fault in clerk.faults]


@CONTROL.route("POST", "/sandbox/faults")
def create_fault(clerk: LocalClerk, given: Fault) -> Any:
    """Add a fault, which applies to later requests."""
    given.require_kind()
    clerk.faults.append(given)
    return given.as_json()


@CONTROL.route("DELETE", "/sandbox/faults")
def clear_faults(clerk: LocalClerk) -> Any:
    """Delete all faults."""
    clerk.faults.clear()
    return []


@CONTROL.route("POST", "/sandbox/outages")
def begin_outage(clerk: LocalClerk, given: Outage) -> Any:
    """Refuse connections for some seconds, starting after this reply is sent."""
    return Reply(200, b"{}", after=lambda: clerk.refuse_connections(given.seconds))


@CONTROL.route("GET", "/sandbox/requests")
def list_requests(clerk: LocalClerk) -> Any:
    """Show the log of requests to Clerk's API, oldest first."""
    return [entry.as_json() for entry in clerk.log]


@CONTROL.route("DELETE", "/sandbox/requests")
def clear_requests(clerk: LocalClerk) -> Any:
    """Delete the log of requests."""
    clerk.log.clear()
    return []


@CONTROL.route("POST", "/sandbox/settings")
def change_settings(clerk: LocalClerk, given: SettingsChange) -> Any:
    """Change the settings of the instance."""
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
    """Change the JSON that is served for one record."""
    clerk.store.patches[given.id] = Patch(given.set or {}, frozenset(given.remove), given.text)
    return {}


@CONTROL.route("POST", "/sandbox/instances")
def use_instance(clerk: LocalClerk, given: InstanceName) -> Any:
    """Switch to another instance; the reply holds the URL and the keys for its clients."""
    return clerk.use_instance(given.name).description


@CONTROL.route("POST", "/sandbox/reset")
def reset(clerk: LocalClerk, given: Population) -> Any:
    """Restore the first records, or create a described population. The keys stay the same."""
    clerk.reset(given if given.given() else None)
    return {}


@CONTROL.route("GET", "/sandbox/webhooks")
def show_webhooks(clerk: LocalClerk) -> Any:
    """Show the options and counts of webhooks, and every message with its attempts but without its body."""
    messages = [message.summary() for message in clerk.instance.deliveries.messages()]
    return _webhooks(clerk) | {"messages": messages}


@CONTROL.route("POST", "/sandbox/webhooks")
def change_webhooks(clerk: LocalClerk, given: WebhookChange) -> Any:
    """Change the options of webhooks; the reply contains a new secret if `rotateSecret` is true."""
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
    """Delete every message, including messages that were not sent yet."""
    clerk.instance.deliveries.clear()
    return []


@CONTROL.route("POST", "/sandbox/webhooks/replay")
def replay_message(clerk: LocalClerk, given: MessageId) -> Any:
    """Send one message again, under the same message id."""
    message = clerk.instance.deliveries.replay(given.id)
    if message is None:
        raise ApiError("resource_not_found", f"No message is known with id {given.id}.")
    return message.summary()


def _webhooks(clerk: LocalClerk) -> dict[str, Any]:
    deliveries = clerk.instance.deliveries
    return deliveries.options.as_json() | {"counts": deliveries.counts()}
