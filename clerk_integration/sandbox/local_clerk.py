"""The state of the local Clerk: instances with their keys and records, faults and the log of requests."""

import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from clerk_integration.sandbox.deliveries import Deliveries, new_signing_secret
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.faults import Fault
from clerk_integration.sandbox.limits import MODES, RateLimiter
from clerk_integration.sandbox.messages import Request
from clerk_integration.sandbox.parameters import (
    ControlParameters,
    Parameters,
    choice,
    integer,
    number,
    optional,
    parse_json,
)
from clerk_integration.sandbox.records import (
    InstanceSettings,
    MillisecondClock,
    Record,
    random_id,
    seeded_ids,
)
from clerk_integration.sandbox.shapes import Serializer
from clerk_integration.sandbox.store import Store
from clerk_integration.sandbox.tokens import TokenIssuer
from clerk_integration.sandbox.webhook_options import WebhookOptions, http_url

MAX_LOGGED = 10_000

latency = number(3_600_000)
rate_limit = choice(*MODES)
slugs = choice("enabled", "disabled")


class Sizes(Parameters):
    """How many records a new instance has. The first member of an organization is its creator."""

    seed: int = optional(integer(), 0)
    """Two instances with the same seed have the same ids."""
    organizations: int = optional(integer(), 0)
    users: int = optional(integer(), 0)
    memberships_per_organization: int = optional(integer(), 0)

    def __post_init__(self) -> None:
        if self.memberships_per_organization > self.users:
            raise ApiError(
                "form_param_value_invalid",
                f"{self.memberships_per_organization} memberships per organization need as many users; "
                f"there are {self.users}.",
            )


class Population(Sizes, ControlParameters):
    """The numbers of records to create, as the control API receives them in a request."""


class Options(Sizes):
    """The options of a local Clerk when it starts."""

    latency_ms: float = optional(latency, 0.0)
    """Delay of every request to Clerk's API, in milliseconds."""
    rate_limit: str = optional(rate_limit, "none")
    """Which rate limits apply: of a development instance, of a live instance, or none."""
    slugs: str = optional(slugs, "enabled")
    webhook_url: str | None = optional(http_url)
    """The endpoint that receives a signed webhook for every change."""
    webhook_retry_scale: float = optional(number(), 1.0)
    """Svix's waits between attempts are multiplied by this number."""


@dataclass(frozen=True)
class Keys:
    """The id and the keys of an instance. The private key signs session tokens."""

    instance_id: str
    secret_key: str
    webhook_signing_secret: str
    private_pem: str | None = None

    @classmethod
    def new(cls, environment: str) -> Self:
        """Return new keys of an instance; `environment` is `test` or `live`."""
        secret_key = f"sk_{environment}_{secrets.token_urlsafe(32)}"
        return cls(random_id("ins_"), secret_key, new_signing_secret())


class Instance:
    """One Clerk instance: its keys, its records and its webhooks. A reset keeps the keys."""

    def __init__(self, keys: Keys, issuer: str, options: Options) -> None:
        self.keys = keys
        self.tokens = TokenIssuer(keys.instance_id, issuer, keys.private_pem)
        webhooks = {"url": options.webhook_url, "retryScale": options.webhook_retry_scale}
        self.deliveries = Deliveries(keys.webhook_signing_secret, WebhookOptions.parse(webhooks))
        self._clock = MillisecondClock()
        self._settings = replace(InstanceSettings(), slug_disabled=options.slugs == "disabled")
        self.reset(options)

    @property
    def description(self) -> dict[str, str]:
        """The URL and the keys that a client needs."""
        return {
            "apiUrl": f"{self.tokens.issuer}/v1",
            "secretKey": self.keys.secret_key,
            "jwtKey": self.tokens.public_pem,
            "issuer": self.tokens.issuer,
            "instanceId": self.keys.instance_id,
            "webhookSigningSecret": self.keys.webhook_signing_secret,
        }

    def reset(self, sizes: Sizes) -> None:
        """Restore the first settings, replace all records by `sizes` new records, and delete all webhooks."""
        self.store = Store(self._clock)
        self.serializer = Serializer(self.store)
        _populate(self.store, sizes)
        self.store.settings = self._settings
        self.store.on_change = self._report
        self.deliveries.reset()

    def _report(self, event_type: str, record: Record, timestamp: int, cascaded: bool) -> None:
        options = self.deliveries.options
        if (options.url is None and not options.paused) or (cascaded and not options.cascades):
            return
        timestamp = timestamp // 1000 if options.timestamp_unit == "s" else timestamp
        body = self.serializer.event(event_type, record, timestamp, self.keys.instance_id)
        self.deliveries.add(event_type, body)


@dataclass(slots=True)
class LogEntry:
    """One request to Clerk's API. `status` is None if the request has no reply yet, or never gets one."""

    request: Request
    status: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the entry as the control API shows it; `body` is null if the request had no valid JSON."""
        shown = {name: getattr(self.request, name) for name in ("method", "path", "query")}
        try:
            body = parse_json(self.request.raw_body)
        except ApiError:
            body = None
        return shown | {"status": self.status, "body": body}


class LocalClerk:
    """The state that all requests share. Hold `lock` to execute a request, and release it for every pause."""

    def __init__(self, issuer: str, options: Options, keys: Keys | None = None) -> None:
        self.lock = threading.RLock()
        self._options = options
        self._issuer = issuer
        self.environment = "live" if options.rate_limit == "live" else "test"
        self.first = Instance(keys or Keys.new(self.environment), issuer, options)
        self._interruption = threading.Event()
        self.refuse_connections: Callable[[float], None] = lambda seconds: None
        """A function that closes the server's port for a number of seconds."""
        self._begin()

    def _begin(self) -> None:
        self.instance = self.first
        self.instances = {"": self.first}
        self.faults: list[Fault] = []
        self.log: deque[LogEntry] = deque(maxlen=MAX_LOGGED)
        self.limits = RateLimiter(self._options.rate_limit)
        self.latency_ms = self._options.latency_ms

    @property
    def store(self) -> Store:
        """The records of the current instance."""
        return self.instance.store

    @property
    def serializer(self) -> Serializer:
        """The serializer of the current instance."""
        return self.instance.serializer

    def use_instance(self, name: str) -> Instance:
        """Switch to an instance; create it without records if the name is new. "" names the first one."""
        if name not in self.instances:
            options = Options.parse({"rate_limit": self._options.rate_limit})
            self.instances[name] = Instance(Keys.new(self.environment), self._issuer, options)
        self.instance = self.instances[name]
        return self.instance

    def reset(self, sizes: Sizes | None = None) -> None:
        """Switch to the first instance, and restore its first settings and its first or the given `sizes`.

        Delete faults, the log and the other instances. End every pause.
        """
        self._stop_other_instances()
        self.first.reset(self._options if sizes is None else sizes)
        self._begin()
        self.interrupt()

    def take_fault(self, request: Request) -> Fault | None:
        """Return the oldest fault that matches the request, or None; decrement the fault's `times`."""
        for position, fault in enumerate(self.faults):
            if fault.matches(request.method, request.path):
                left = fault.changed(times=fault.times - 1)
                self.faults[position : position + 1] = [left] if left.times else []
                return fault
        return None

    def interrupt(self) -> None:
        """End every pause, so that a request that began before a reset changes nothing after the reset."""
        interruption, self._interruption = self._interruption, threading.Event()
        interruption.set()

    def pause(self, seconds: float) -> bool:
        """Wait for `seconds`; return False if a reset or the stop of the server ended the wait early."""
        return seconds <= 0 or not self._interruption.wait(seconds)

    def stop(self) -> None:
        """End every pause and stop sending webhooks."""
        self.interrupt()
        self._stop_other_instances()
        self.first.deliveries.stop()

    def _stop_other_instances(self) -> None:
        for name, instance in self.instances.items():
            if name:
                instance.deliveries.stop()


def _populate(store: Store, sizes: Sizes) -> None:
    """Create the first records. Make users members in turn, so that memberships are spread evenly."""
    store.new_id, random_ids = seeded_ids(sizes.seed), store.new_id
    users = [
        store.create_user(
            first_name="User",
            last_name=str(position),
            username=f"user{position}",
            email_address=f"user{position}@example.com",
        ).id
        for position in range(1, sizes.users + 1)
    ]
    for index in range(sizes.organizations):
        first = index * sizes.memberships_per_organization
        members = [users[(first + n) % len(users)] for n in range(sizes.memberships_per_organization)]
        organization = store.create_organization(
            name=f"Organization {index + 1}",
            created_by=members[0] if members else None,
            max_allowed_memberships=0,
        )
        for user_id in members[1:]:
            store.create_membership(organization.id, user_id, "org:member")
    store.new_id = random_ids
