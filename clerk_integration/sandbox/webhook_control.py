"""The control API under /sandbox/webhooks: what befalls webhooks, and what became of them."""

from typing import Any

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.events import TIMESTAMP_UNITS
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.parameters import Body
from clerk_integration.sandbox.routing import Route

MAX_RETRY_SCALE = 1000.0

_WEBHOOK_OPTIONS = (
    "url",
    "paused",
    "duplicate",
    "shuffle",
    "drop",
    "cascades",
    "retryScale",
    "timestampUnit",
)


def show_webhooks(clerk: LocalClerk, request: Request) -> Reply:
    """Show the options and counts of webhooks and every message with its attempts, without its body."""
    messages = [message.summary() for message in clerk.deliveries.messages()]
    return Reply.json(_webhooks(clerk) | {"messages": messages})


def change_webhooks(clerk: LocalClerk, request: Request) -> Reply:
    """Change what befalls webhooks; what is left out stays, an empty `url` takes the endpoint away.

    While `paused`, changes make messages that wait. `duplicate` and `drop` are probabilities or booleans
    and meet a message when it is first sent; `shuffle` sends in random order. `cascades`: whether the
    memberships of what is deleted are told of. `rotateSecret` makes a new secret, which the answer
    carries; the one before it goes on signing beside it.
    """
    body = request.body(*_WEBHOOK_OPTIONS, "rotateSecret")
    changes = {name: value for name, value in _wanted_options(body).items() if value is not None}
    if changes.get("url") == "":
        changes["url"] = None
    rotates = body.boolean("rotateSecret")
    try:
        clerk.deliveries.configure(changes)
    except ValueError as error:
        raise ApiError("form_param_value_invalid", str(error), param="url") from None
    rotated = clerk.deliveries.rotate_secret() if rotates else None
    return Reply.json(_webhooks(clerk) | ({"webhookSigningSecret": rotated} if rotated else {}))


def list_messages(clerk: LocalClerk, request: Request) -> Reply:
    """Show every message with its body, the oldest first."""
    return Reply.text(f"[{','.join(message.text() for message in clerk.deliveries.messages())}]")


def clear_messages(clerk: LocalClerk, request: Request) -> Reply:
    """Forget every message, also those that were not sent yet."""
    clerk.deliveries.clear()
    return Reply.json([])


def replay_message(clerk: LocalClerk, request: Request) -> Reply:
    """Send one message again, under its own id."""
    message_id = request.body("id").required_text("id")
    message = clerk.deliveries.replay(message_id)
    if message is None:
        raise ApiError("resource_not_found", f"No message is known with id {message_id}.")
    return Reply.json(message.summary())


def _wanted_options(body: Body) -> dict[str, Any]:
    """The fields of WebhookOptions; None where nothing is said."""
    scale = body.number("retryScale")
    return {
        "url": body.text("url"),
        "paused": body.boolean("paused"),
        "duplicate": body.probability("duplicate"),
        "shuffle": body.boolean("shuffle"),
        "drop": body.probability("drop"),
        "cascades": body.boolean("cascades"),
        "retry_scale": None if scale is None else min(scale, MAX_RETRY_SCALE),
        "timestamp_unit": body.choice("timestampUnit", TIMESTAMP_UNITS),
    }


def _webhooks(clerk: LocalClerk) -> dict[str, Any]:
    return clerk.deliveries.options.as_json() | {"counts": clerk.deliveries.counts()}


ROUTES = (
    Route("GET", "/sandbox/webhooks", show_webhooks),
    Route("POST", "/sandbox/webhooks", change_webhooks),
    Route("GET", "/sandbox/webhooks/messages", list_messages),
    Route("DELETE", "/sandbox/webhooks/messages", clear_messages),
    Route("POST", "/sandbox/webhooks/replay", replay_message),
)
