"""The options of an instance's webhooks, as the control API reads them."""

from typing import Any
from urllib.parse import urlsplit

from clerk_integration.sandbox.parameters import (
    ControlParameters,
    Unacceptable,
    boolean,
    choice,
    number,
    optional,
    text,
)


def http_url(value: Any) -> str | None:
    """Return the URL, or None if it is empty; raise Unacceptable unless it is an http or https URL."""
    try:
        parts = urlsplit(text(value))
        is_http = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_http = False
    if value and not is_http:
        raise Unacceptable("must be an http or https URL", "form_param_value_invalid")
    return value or None


def probability(value: Any) -> float:
    """Return a number from 0 to 1; read false as 0 and true as 1."""
    return float(value) if isinstance(value, bool) else number(1)(value)


class WebhookOptions(ControlParameters):
    """The endpoint of the webhooks, and how their delivery is disturbed.

    `duplicate` and `drop` are probabilities from 0 to 1, or booleans. They apply to the first attempt of a
    message. `shuffle` sends messages in random order.
    """

    url: str | None = optional(http_url)
    """None (or empty): the instance has no endpoint, and creates messages only while `paused` is true."""
    retry_scale: float = optional(number(), 1.0)
    """Svix's waits are multiplied by this number."""
    paused: bool = optional(boolean, False)
    """Whether to queue messages without sending them."""
    duplicate: float = optional(probability, 0.0)
    drop: float = optional(probability, 0.0)
    shuffle: bool = optional(boolean, False)
    cascades: bool = optional(boolean, True)
    """Whether deleting an organization or user also sends one event for each deleted membership.

    Clerk does not document whether it sends these events; receivers must work in both cases.
    """
    timestamp_unit: str = optional(choice("ms", "s"), "ms")
    """Clerk's documentation says milliseconds, but the examples of its OpenAPI specification show seconds."""
