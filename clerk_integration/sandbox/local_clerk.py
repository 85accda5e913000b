"""One local instance of Clerk: its keys, records, settings, faults and log."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from clerk_integration.sandbox.deliveries import Deliveries, new_signing_secret
from clerk_integration.sandbox.events import event_text
from clerk_integration.sandbox.faults import Faults
from clerk_integration.sandbox.identifiers import random_id
from clerk_integration.sandbox.limits import RateLimit, RateLimiter
from clerk_integration.sandbox.records import Change, InstanceSettings
from clerk_integration.sandbox.request_log import RequestLog
from clerk_integration.sandbox.seed import Seed
from clerk_integration.sandbox.shapes import Serializer
from clerk_integration.sandbox.store import Store
from clerk_integration.sandbox.tokens import TokenIssuer
from clerk_integration.sandbox.webhook_options import WebhookOptions

T = TypeVar("T")


class LocalClerk:
    """Everything behind the server; keys are made once and survive a reset."""

    def __init__(
        self,
        seed: Seed,
        *,
        slug_disabled: bool,
        rate_limit: RateLimit,
        latency_ms: float,
        webhooks: WebhookOptions,
    ) -> None:
        live = rate_limit == "live"
        self.environment_type = "production" if live else "development"
        self.secret_key = f"sk_{'live' if live else 'test'}_{secrets.token_urlsafe(32)}"
        self.webhook_signing_secret = new_signing_secret()
        self.instance_id = random_id("ins_")
        self.tokens = TokenIssuer(self.instance_id)
        self.store = Store(InstanceSettings())
        self.serializer = Serializer(self.store)
        self.deliveries = Deliveries(self.webhook_signing_secret, webhooks)
        self.store.on_change = self._announce
        self.faults = Faults()
        self.log = RequestLog()
        self.limits = RateLimiter(rate_limit)
        self.latency_ms = latency_ms
        self._interruption = threading.Event()
        self._start = (rate_limit, latency_ms)
        self._settings = replace(InstanceSettings(), slug_disabled=slug_disabled)
        self._population = seed.tables(self.store.clock)
        self._derived: dict[str, tuple[int, Any]] = {}
        self.reset()

    def reset(self, seed: Seed | None = None) -> None:
        """Go back to the first settings, without faults and log, and to the first or the given population."""
        population = self._population if seed is None else seed.tables(self.store.clock)
        self.store.replace_all(population, self._settings)
        self.serializer.forget()
        self.deliveries.reset()
        self.faults.clear()
        self.log.clear()
        self.limits.reset()
        self.limits.mode, self.latency_ms = self._start
        self.interrupt()

    def interrupt(self) -> None:
        """End every pause: what waited belongs to a time that is over and may change nothing now."""
        interruption, self._interruption = self._interruption, threading.Event()
        interruption.set()

    def pause(self, seconds: float) -> bool:
        """Wait; return False when a reset or the end of the server cut it short."""
        return seconds <= 0 or not self._interruption.wait(seconds)

    def stop(self) -> None:
        """End every pause and send no more webhooks."""
        self.interrupt()
        self.deliveries.stop()

    def derived(self, name: str, compute: Callable[[], T]) -> T:
        """Return what `compute` makes of the records, kept until the next change of them."""
        version = self.store.version
        kept = self._derived.get(name)
        if kept is None or kept[0] != version:
            kept = (version, compute())
            self._derived[name] = kept
        return cast(T, kept[1])

    def _announce(self, change: Change) -> None:
        options = self.deliveries.options
        if options.makes_messages and (options.cascades or not change.cascaded):
            body = event_text(change, self.serializer, self.instance_id, options.timestamp_unit)
            self.deliveries.add(change.event_type, body)
