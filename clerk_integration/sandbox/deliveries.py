"""Queue, send and retry the webhooks of an instance; drop, duplicate or shuffle them on request.

Webhooks behave as with Svix, which sends them for Clerk. Every message is delivered at least once, in no
guaranteed order. All attempts of a message have the same id.
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

from clerk_integration.sandbox.attempts import Attempt, attempt, new_session
from clerk_integration.sandbox.records import random_id
from clerk_integration.sandbox.shapes import dump
from clerk_integration.sandbox.webhook_options import WebhookOptions

RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
"""Svix's wait after each failed attempt. If the attempt after the last wait fails, the message fails."""

WORKERS = 8
STOP_SECONDS = 2.0
SHUFFLE_SECONDS = 0.5
"""With `shuffle`, the maximum of the random delay before a message is sent."""

MAX_QUEUED = 50_000
MAX_FINISHED = 10_000

Status = Literal["pending", "delivered", "failed", "dropped"]

_COUNTED = ("pending", "delivered", "failed", "dropped", "discarded")


def new_signing_secret() -> str:
    """Return a new random secret in Svix's format, `whsec_` and base64."""
    return f"whsec_{b64encode(secrets.token_bytes(24)).decode()}"


@dataclass(slots=True, eq=False)
class Message:
    """One event for the endpoint. All attempts to deliver the message have the same id."""

    id: str
    type: str
    body: str
    status: Status = "pending"
    attempts: list[Attempt] = field(default_factory=list)
    underway: int = 0
    """The number of deliveries of this message that have not ended."""

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
    """One delivery of a message, with its retries: the first delivery, a duplicate or a replay."""

    message: Message
    is_first: bool = False
    failures: int = 0
    failed_at: float = 0.0


class Deliveries:
    """The messages of an instance. Their threads wait for the network; the methods, except `stop`, do not."""

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

    # --- called by the instance ------------------------------------------------------------------

    def add(self, event_type: str, body: str) -> None:
        """Queue a new message. If the queue is full, discard the message and count it as discarded."""
        message = Message(random_id("msg_"), event_type, body)
        with self._changed:
            if len(self._queue) >= MAX_QUEUED:
                self._counts["discarded"] += 1
                return
            self._messages[message.id] = message
            self._counts["pending"] += 1
            self._begin(_Delivery(message, is_first=True))

    def reset(self) -> None:
        """Delete every message, and restore the first options and the first secret."""
        with self._changed:
            self._signing_secrets, self.options = self._start
            self._forget()
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop sending; wait a short time for attempts that have begun."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    # --- control ---------------------------------------------------------------------------------

    def configure(self, changes: dict[str, Any]) -> None:
        """Change some options, and reschedule the queued messages in their present order."""
        with self._changed:
            self.options = self.options.changed(**changes)
            waiting = [entry[-1] for entry in sorted(self._queue)]
            self._queue.clear()
            for delivery in waiting:
                self._plan(delivery)
            self._start_workers()
            self._changed.notify_all()

    def rotate_secret(self) -> str:
        """Return a new secret. Later attempts carry a signature by the new and one by the previous secret."""
        with self._changed:
            self._signing_secrets = (new_signing_secret(), self._signing_secrets[0])
            return self._signing_secrets[0]

    def replay(self, message_id: str) -> Message | None:
        """Queue a message again, under the same id, and return it; return None if no message has the id."""
        with self._changed:
            message = self._messages.get(message_id)
            if message is not None:
                self._mark(message, "pending")
                self._begin(_Delivery(message))
            return message

    def messages(self) -> list[Message]:
        """Return all pending messages and the latest MAX_FINISHED finished messages, oldest first."""
        with self._changed:
            return list(self._messages.values())

    def clear(self) -> None:
        """Delete every message, including pending messages."""
        with self._changed:
            self._forget()

    def counts(self) -> dict[str, int]:
        """Return the number of messages in each state; a message is `discarded` if the queue was full."""
        with self._changed:
            return {name: self._counts[name] for name in _COUNTED}

    # --- the queue; the caller holds the lock ----------------------------------------------------

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
        """Start the threads unless they are running or no endpoint is set."""
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
        """Wait for a due delivery; return the delivery, the URL and the secrets, or None after `stop`."""
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
        """Remove the next delivery and return it, or None if it is dropped. Apply `drop` and `duplicate`."""
        delivery = heapq.heappop(self._queue)[-1]
        # Wake another thread: the next delivery may be due earlier than the thread would wake.
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
        """Record the result of an attempt; schedule a retry if the attempt failed and may be retried."""
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
