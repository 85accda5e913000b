"""Wake-ups: the jobs that tell a worker that deliveries are due.

The inbox itself is the queue. A wake-up names no delivery: `drain` claims whatever is due when the job runs.
If a wake-up is waiting already, no other is added. A wake-up may be lost or superfluous without harm, because
`recover` adds one every few seconds while a delivery is due.
"""

from django.db import connection

WEBHOOKS = "webhooks"
"""The queue of wake-ups and of rescues, so that each worker for deliveries also runs rescues."""

DRAIN = "clerk_integration.tasks.drain_webhooks"

PRIORITY = 50
"""Above other jobs, so that a search for a waiting wake-up reads only the first entries of the index."""

# Deliveries that `drain` may claim. The index `webhook_deliveries_due` has the same conditions but the time.
DUE = """status IN ('received', 'failed') AND claim IS NULL AND crashes = 0
      AND due_at <= statement_timestamp()"""

WAKE_WORKER = "webhook_deliveries_wake_worker()"
"""Calls the function that adds a wake-up if none is waiting. Migrations 0009 and 0010 have its condition."""

# ORDER BY makes PostgreSQL use the index, whatever its statistics say about the number of due deliveries.
_WAKE_IF_DUE = f"""
SELECT {WAKE_WORKER}
WHERE (SELECT id FROM webhook_deliveries WHERE {DUE} ORDER BY due_at, id LIMIT 1) IS NOT NULL
"""


def wake_if_due() -> None:
    """Add a wake-up if a delivery is due and no wake-up is waiting. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_WAKE_IF_DUE)
