"""Signals that this app sends to the apps that depend on it."""

from django.dispatch import Signal

nightly = Signal()
"""Sent once a night, at 03:00 UTC, in a worker, without sender or arguments.

Receivers are called one after the other, even if an earlier one failed, and may be called twice in a night.
Long work belongs in a job of its own, which the receiver enqueues.
"""

# For metrics. Sending a signal without a receiver takes a tenth of a microsecond. Receivers must not fail or
# wait; `send_robust` logs their exceptions.

clerk_called = Signal()
"""Sent after each request to Clerk: `operation` (`GET /organizations/{id}`), `outcome`, `seconds`.

`outcome` is the status of the reply, `unanswered`, or `unreadable`.
"""

clerk_not_called = Signal()
"""Sent instead of a request: `reason` is `breaker_open`, `too_many_waiting` or `rate_limit`."""

breaker_changed = Signal()
"""Sent when a breaker of this process opens or closes: `breaker` is `read` or `write`, and `is_open`."""

delivery_stored = Signal()
"""Sent after a genuine webhook was received: `event_type`, and `is_new`, which is false for a repeat."""

deliveries_tried = Signal()
"""Sent after the end of an attempt: `deliveries`, and their `outcome`.

`outcome` is `processed`, `ignored`, `failed` (a further try follows) or `given_up`.
"""
