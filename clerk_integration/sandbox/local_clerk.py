"""The local Clerk behind the server: instances with their keys and records, faults and the log."""

import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from clerk_integration.sandbox.deliveries import Deliveries, WebhookOptions, http_url, new_signing_secret
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

MAX_LOGGED = 10_000

latency = number(3_600_000)
rate_limit = choice(*MODES)
slugs = choice("enabled", "disabled")


class Sizes(Parameters):
    """How many records an instance begins with; the first member of an organization is its creator."""

    seed: int = optional(integer(), 0)
    """The same seed makes the same ids."""
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
    """The same, as the control API takes it."""


class Options(Sizes):
    """What `clerk_sandbox` starts with."""

    latency_ms: float = optional(latency, 0.0)
    """Delay of every call of Clerk's API."""
    rate_limit: str = optional(rate_limit, "none")
    """The limits of a development or a live instance, or none."""
    slugs: str = optional(slugs, "enabled")
    webhook_url: str | None = optional(http_url)
    """Where every change is reported, signed."""
    webhook_retry_scale: float = optional(number(), 1.0)
    """Factor of Svix's waits between attempts."""


@dataclass(frozen=True)
class Keys:
    """What the clients of an instance know of it; the private key signs session tokens."""

    instance_id: str
    secret_key: str
    webhook_signing_secret: str
    private_pem: str | None = None

    @classmethod
    def new(cls, environment: str) -> Self:
        """Return keys of a `test` or `live` instance."""
        secret_key = f"sk_{environment}_{secrets.token_urlsafe(32)}"
        return cls(random_id("ins_"), secret_key, new_signing_secret())


class Instance:
    """One Clerk instance: its keys, which survive a reset, its records and its webhooks."""

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
        """What a client needs to know."""
        return {
            "apiUrl": f"{self.tokens.issuer}/v1",
            "secretKey": self.keys.secret_key,
            "jwtKey": self.tokens.public_pem,
            "issuer": self.tokens.issuer,
            "instanceId": self.keys.instance_id,
            "webhookSigningSecret": self.keys.webhook_signing_secret,
        }

    def reset(self, sizes: Sizes) -> None:
        """Return to the first settings and to a population of these sizes, and forget all webhooks."""
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
    """One call of Clerk's API; `status` is None while, or because, it got no reply."""

    request: Request
    status: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the entry as the control API shows it; `body` is null when it was no JSON."""
        shown = {name: getattr(self.request, name) for name in ("method", "path", "query")}
        try:
            body = parse_json(self.request.raw_body)
        except ApiError:
            body = None
        return shown | {"status": self.status, "body": body}


class LocalClerk:
    """Everything behind the server. `lock` is held while a request is answered, never while one waits."""

    def __init__(self, issuer: str, options: Options, keys: Keys | None = None) -> None:
        self.lock = threading.RLock()
        self._options = options
        self._issuer = issuer
        self.environment = "live" if options.rate_limit == "live" else "test"
        self.first = Instance(keys or Keys.new(self.environment), issuer, options)
        self._interruption = threading.Event()
        self.refuse_connections: Callable[[float], None] = lambda seconds: None
        """Called to close the server's port for so many seconds."""
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
        """What turns these records into JSON."""
        return self.instance.serializer

    def use_instance(self, name: str) -> Instance:
        """Serve another instance at the same address, made empty when the name is new; "" is the first."""
        if name not in self.instances:
            options = Options.parse({"rate_limit": self._options.rate_limit})
            self.instances[name] = Instance(Keys.new(self.environment), self._issuer, options)
        self.instance = self.instances[name]
        return self.instance

    def reset(self, sizes: Sizes | None = None) -> None:
        """Return to the first instance, its first settings and its first or the given population.

        Faults, the log and the other instances are forgotten; pauses end.
        """
        self._stop_other_instances()
        self.first.reset(self._options if sizes is None else sizes)
        self._begin()
        self.interrupt()

    def take_fault(self, request: Request) -> Fault | None:
        """Return the oldest fault that the request meets and use it up by one."""
        for position, fault in enumerate(self.faults):
            if fault.matches(request.method, request.path):
                left = fault.changed(times=fault.times - 1)
                self.faults[position : position + 1] = [left] if left.times else []
                return fault
        return None

    def interrupt(self) -> None:
        """End every pause: a request that waited belongs to the past and may change nothing now."""
        interruption, self._interruption = self._interruption, threading.Event()
        interruption.set()

    def pause(self, seconds: float) -> bool:
        """Wait; return False when a reset or the end of the server cut it short."""
        return seconds <= 0 or not self._interruption.wait(seconds)

    def stop(self) -> None:
        """End every pause and send no more webhooks."""
        self.interrupt()
        self._stop_other_instances()
        self.first.deliveries.stop()

    def _stop_other_instances(self) -> None:
        for name, instance in self.instances.items():
            if name:
                instance.deliveries.stop()


def _populate(store: Store, sizes: Sizes) -> None:
    """Make the records: members are taken from the users in turn."""
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
