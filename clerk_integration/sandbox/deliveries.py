"""The webhooks of an instance: queued, sent by a few threads, retried, and disturbed on request.

As Svix does it for Clerk: at least once, in no certain order, with the same id for every attempt of a
message.
"""

import heapq
import itertools
import random
import secrets
import threading
import time
from base64 import b64encode
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from clerk_integration.sandbox.attempts import Attempt, attempt, new_session
from clerk_integration.sandbox.parameters import (
    ControlParameters,
    Unacceptable,
    boolean,
    choice,
    number,
    optional,
    text,
)
from clerk_integration.sandbox.records import random_id
from clerk_integration.sandbox.shapes import dump

RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
"""Svix's waits after the first failed attempt, the second, ...; after the last it gives up."""

WORKERS = 8
STOP_SECONDS = 2.0
SHUFFLE_SECONDS = 0.5
"""The time over which shuffled messages are spread."""

MAX_QUEUED = 50_000
MAX_FINISHED = 10_000

Status = Literal["pending", "delivered", "failed", "dropped"]

_COUNTED = ("pending", "delivered", "failed", "dropped", "discarded")


def http_url(value: Any) -> str | None:
    """Return the URL, None for an empty one; refuse others than http and https."""
    try:
        parts = urlsplit(text(value))
        is_http = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_http = False
    if value and not is_http:
        raise Unacceptable("must be an http or https URL", "form_param_value_invalid")
    return value or None


def probability(value: Any) -> float:
    """Return a number of 0 to 1; false and true stand for 0 and 1."""
    return float(value) if isinstance(value, bool) else number(1)(value)


class WebhookOptions(ControlParameters):
    """Where webhooks go and what befalls them.

    Probabilities are 0 to 1, or booleans. `duplicate` and `drop` meet a message when it is first sent,
    `shuffle` sends in random order.
    """

    url: str | None = optional(http_url)
    """None (or empty): the instance has no endpoint, and a change makes a message only when `paused`."""
    retry_scale: float = optional(number(), 1.0)
    """Factor of Svix's waits."""
    paused: bool = optional(boolean, False)
    """Whether messages are made and wait."""
    duplicate: float = optional(probability, 0.0)
    drop: float = optional(probability, 0.0)
    shuffle: bool = optional(boolean, False)
    cascades: bool = optional(boolean, True)
    """Whether memberships that end with their organization or user are reported one by one.

    Nothing shows whether Clerk does; receivers must cope with both.
    """
    timestamp_unit: str = optional(choice("ms", "s"), "ms")
    """Clerk's documents say milliseconds, the examples of its specification show seconds."""


def new_signing_secret() -> str:
    """Return a new secret as Svix spells it."""
    return f"whsec_{b64encode(secrets.token_bytes(24)).decode()}"


@dataclass(slots=True, eq=False)
class Message:
    """One event for the endpoint, under one id for all its attempts."""

    id: str
    type: str
    body: str
    status: Status = "pending"
    attempts: list[Attempt] = field(default_factory=list)
    underway: int = 0
    """How many deliveries of it have not ended."""

    def summary(self) -> dict[str, Any]:
        """Return the message without its body."""
        attempts = [item.as_json() for item in self.attempts]
        return {"id": self.id, "type": self.type, "status": self.status, "attempts": attempts}

    def text(self) -> str:
        """Return the message with its body, as JSON text."""
        head = dump({"id": self.id, "type": self.type, "status": self.status})
        return f'{head[:-1]},"body":{self.body}}}'


@dataclass(slots=True, eq=False)
class _Delivery:
    """One way of a message to the endpoint: the first, a duplicate or a replay."""

    message: Message
    is_first: bool = False
    failures: int = 0
    failed_at: float = 0.0


class Deliveries:
    """The messages of an instance. Only the threads that send wait for the network."""

    def __init__(self, signing_secret: str, options: WebhookOptions) -> None:
        self.options = options
        self._signing_secrets: tuple[str, ...] = (signing_secret,)
        self._start = (self._signing_secrets, options)
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, _Delivery]] = []
        self._messages: dict[str, Message] = {}
        self._finished: deque[Message] = deque()
        self._counts: Counter[str] = Counter()
        self._order = itertools.count()
        self._workers: list[threading.Thread] = []
        self._stopped = False
        self._random = random.Random()  # noqa: S311 - chance, not a secret

    # --- what happens in the instance ------------------------------------------------------------

    def add(self, event_type: str, body: str) -> None:
        """Queue a new message; discard and count it when the queue is full."""
        message = Message(random_id("msg_"), event_type, body)
        with self._changed:
            if len(self._queue) >= MAX_QUEUED:
                self._counts["discarded"] += 1
                return
            self._messages[message.id] = message
            self._counts["pending"] += 1
            self._begin(_Delivery(message, is_first=True))

    def reset(self) -> None:
        """Forget every message and return to the first options and the first secret."""
        with self._changed:
            self._signing_secrets, self.options = self._start
            self._forget()
            self._changed.notify_all()

    def stop(self) -> None:
        """Send nothing more; wait a short time for what is being sent."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    # --- control ---------------------------------------------------------------------------------

    def configure(self, changes: dict[str, Any]) -> None:
        """Change some options; messages that wait are planned anew, in their order."""
        with self._changed:
            self.options = self.options.changed(**changes)
            waiting = [entry[-1] for entry in sorted(self._queue)]
            self._queue.clear()
            for delivery in waiting:
                self._plan(delivery)
            self._start_workers()
            self._changed.notify_all()

    def rotate_secret(self) -> str:
        """Return a new secret; from now on it and the one before it sign together."""
        with self._changed:
            self._signing_secrets = (new_signing_secret(), self._signing_secrets[0])
            return self._signing_secrets[0]

    def replay(self, message_id: str) -> Message | None:
        """Deliver a message once more, under its own id; return None when there is no such message."""
        with self._changed:
            message = self._messages.get(message_id)
            if message is not None:
                self._mark(message, "pending")
                self._begin(_Delivery(message))
            return message

    def messages(self) -> list[Message]:
        """Return the messages, oldest first: those that are pending and the latest that are not."""
        with self._changed:
            return list(self._messages.values())

    def clear(self) -> None:
        """Forget every message, pending ones too."""
        with self._changed:
            self._forget()

    def counts(self) -> dict[str, int]:
        """Return how many messages are in which state; `discarded` ones found the queue full."""
        with self._changed:
            return {name: self._counts[name] for name in _COUNTED}

    # --- the queue, all of it under the lock -----------------------------------------------------

    def _begin(self, delivery: _Delivery) -> None:
        delivery.message.underway += 1
        self._plan(delivery)
        self._start_workers()
        self._changed.notify()

    def _plan(self, delivery: _Delivery) -> None:
        heapq.heappush(self._queue, (self._due(delivery), next(self._order), delivery))

    def _due(self, delivery: _Delivery) -> float:
        if delivery.failures:
            return delivery.failed_at + RETRY_SECONDS[delivery.failures - 1] * self.options.retry_scale
        if self.options.shuffle:
            return time.monotonic() + self._random.uniform(0, SHUFFLE_SECONDS)
        return 0.0

    def _end(self, delivery: _Delivery, status: Status) -> None:
        message = delivery.message
        message.underway -= 1
        if message.underway or self._messages.get(message.id) is not message:
            return
        succeeded = any(item.error is None for item in message.attempts)
        self._mark(message, "delivered" if succeeded else status)
        self._finished.append(message)
        if len(self._finished) > MAX_FINISHED:
            oldest = self._finished.popleft()
            if not oldest.underway:
                self._messages.pop(oldest.id, None)

    def _mark(self, message: Message, status: Status) -> None:
        self._counts[message.status] -= 1
        self._counts[status] += 1
        message.status = status

    def _forget(self) -> None:
        self._queue.clear()
        self._messages.clear()
        self._finished.clear()
        self._counts.clear()

    # --- sending ---------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        """Start the threads when there is an endpoint for the first time."""
        if self._workers or self._stopped or self.options.url is None:
            return
        self._workers = [
            threading.Thread(target=self._work, name=f"clerk-sandbox-webhooks-{number}", daemon=True)
            for number in range(WORKERS)
        ]
        for worker in self._workers:
            worker.start()

    def _work(self) -> None:
        with new_session() as session:
            while (taken := self._take()) is not None:
                delivery, url, signing_secrets = taken
                message = delivery.message
                self._note(delivery, attempt(session, url, message.id, message.body, signing_secrets))

    def _take(self) -> tuple[_Delivery, str, tuple[str, ...]] | None:
        """Wait for a delivery that is due; return None at the end of the server."""
        with self._changed:
            while not self._stopped:
                url = self.options.url
                wait = self._queue[0][0] - time.monotonic() if self._queue else None
                if url is None or self.options.paused or wait is None:
                    self._changed.wait()
                elif wait > 0:
                    self._changed.wait(wait)
                elif (delivery := self._pop()) is not None:
                    return delivery, url, self._signing_secrets
            return None

    def _pop(self) -> _Delivery | None:
        """Take the next delivery, perhaps duplicate a first one; return None when it was dropped."""
        delivery = heapq.heappop(self._queue)[-1]
        # Another thread may be waiting for a later time than the next delivery needs.
        self._changed.notify()
        if not delivery.is_first or delivery.failures:
            return delivery
        if self._random.random() < self.options.drop:
            self._end(delivery, "dropped")
            return None
        if self._random.random() < self.options.duplicate:
            self._begin(_Delivery(delivery.message))
        return delivery

    def _note(self, delivery: _Delivery, result: Attempt) -> None:
        """Record the result of an attempt, and plan the next one if it failed."""
        with self._changed:
            delivery.message.attempts.append(result)
            if result.error is None:
                self._end(delivery, "delivered")
            elif result.aborted or delivery.failures == len(RETRY_SECONDS):
                self._end(delivery, "failed")
            elif self._messages.get(delivery.message.id) is delivery.message:
                delivery.failures, delivery.failed_at = delivery.failures + 1, time.monotonic()
                self._plan(delivery)
                self._changed.notify()
