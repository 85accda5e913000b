"""Where webhooks go, and what may befall them on the way."""

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from clerk_integration.sandbox.events import TimestampUnit


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Where webhooks go and what befalls them; probabilities are 0 to 1.

    Raises ValueError for what cannot be.
    """

    url: str | None = None
    """None while the instance has no endpoint: then a change makes a message only when `paused`."""
    retry_scale: float = 1.0
    """Factor of Svix's waits."""
    paused: bool = False
    duplicate: float = 0.0
    drop: float = 0.0
    shuffle: bool = False
    cascades: bool = True
    """Whether memberships that end with their organization or user are told of one by one.

    Nothing shows whether Clerk does; receivers must get along with both.
    """
    timestamp_unit: TimestampUnit = "ms"

    @property
    def makes_messages(self) -> bool:
        """Whether a change makes a message."""
        return self.url is not None or self.paused

    def __post_init__(self) -> None:
        if self.url is not None and not _is_http_url(self.url):
            raise ValueError(f"{self.url!r} is no http or https URL.")
        if not (self.retry_scale >= 0 and math.isfinite(self.retry_scale)):
            raise ValueError("The scale of retries must be 0 or more.")
        if not (0 <= self.duplicate <= 1 and 0 <= self.drop <= 1):
            raise ValueError("A probability must be 0 to 1.")

    def as_json(self) -> dict[str, Any]:
        """The options as the control API takes them."""
        return {
            "url": self.url,
            "retryScale": self.retry_scale,
            "paused": self.paused,
            "duplicate": self.duplicate,
            "drop": self.drop,
            "shuffle": self.shuffle,
            "cascades": self.cascades,
            "timestampUnit": self.timestamp_unit,
        }


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
