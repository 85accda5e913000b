"""Decide which process may list a user's memberships, and record when they were last listed.

One conditional statement, in its own transaction, takes the lease. Only one process at a time lists a user,
and no transaction is open while the process waits for Clerk.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from clerk_integration.conf import clerk_settings
from tenants.mirror import locks
from tenants.models import UserSync
from tenants.sql import ClockTimestamp

BACK_OFF_SECONDS = 3.0
"""For this time after a failed listing, the user's lists come from local rows, without asking Clerk."""

LONGEST_LEASE_SECONDS = 60.0
"""A stored lease that ends later was taken before the database's clock was set back; it counts as expired."""

# A listing in the future was recorded before the clock was set back: its age is unknown.
_FRESH = """(
    {row}.synced_at > clock_timestamp() - %(max_age)s * interval '1 second'
    AND {row}.synced_at <= clock_timestamp())"""

_LEASED = """(
    {row}.lease_expires_at > clock_timestamp()
    AND {row}.lease_expires_at <= clock_timestamp() + %(longest)s * interval '1 second')"""

IS_FRESH = f"""
EXISTS (SELECT FROM user_syncs WHERE clerk_user_id = %(user_id)s AND {_FRESH.format(row="user_syncs")})
"""
"""Whether the user's memberships were fully listed within `CLERK_SYNC_MAX_AGE_SECONDS`."""

TAKE_LEASE = f"""
WITH known AS (
    SELECT synced_at, lease, lease_expires_at FROM user_syncs WHERE clerk_user_id = %(user_id)s),
taken AS (
    INSERT INTO user_syncs (clerk_user_id, lease, lease_expires_at)
    SELECT %(user_id)s, %(lease)s, clock_timestamp() + %(lease_seconds)s * interval '1 second'
    WHERE NOT EXISTS (
        SELECT FROM known WHERE {_FRESH.format(row="known")} OR {_LEASED.format(row="known")})
      AND set_config('lock_timeout', %(lock_timeout)s, true) IS NOT NULL
    ON CONFLICT (clerk_user_id) DO UPDATE
        SET lease = excluded.lease, lease_expires_at = excluded.lease_expires_at
        WHERE {_FRESH.format(row="user_syncs")} IS NOT TRUE
          AND {_LEASED.format(row="user_syncs")} IS NOT TRUE
    RETURNING clerk_user_id)
SELECT EXISTS (SELECT FROM taken),
       EXISTS (SELECT FROM known WHERE {_FRESH.format(row="known")}),
       EXISTS (SELECT FROM known WHERE lease IS NULL AND {_LEASED.format(row="known")}),
       clock_timestamp(), (SELECT instance_id FROM clerk_learned_instance)
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to list one user's memberships; `listed_at` is the database's time at its start.

    `instance_id` is the Clerk instance that this database belongs to, None if it is not known yet.
    """

    id: UUID
    listed_at: datetime
    instance_id: str | None


@dataclass(frozen=True, slots=True)
class LeaseState:
    """Whether a user's memberships are fresh, and the lease if this process may list them.

    If they are not fresh and `lease` is None, another process is listing them, or, if `is_backing_off`, the
    last listing has just failed.
    """

    is_fresh: bool
    is_backing_off: bool
    lease: Lease | None


def take_lease(clerk_user_id: str, *, seconds: float, max_age: float | None = None) -> LeaseState:
    """Return whether the user's memberships are fresh and, if not, take the lease if it is free.

    Fresh means fully listed within `max_age` seconds, by default CLERK_SYNC_MAX_AGE_SECONDS. Writes
    `user_syncs` in one statement, but nothing if the memberships are fresh or the lease is not free. The
    lease expires after `seconds`, so that a killed process does not block other processes for longer.
    """
    lease_id = uuid4()
    parameters = {
        "user_id": clerk_user_id,
        "lease": lease_id,
        "lease_seconds": seconds,
        "longest": max(seconds, LONGEST_LEASE_SECONDS),
        "max_age": clerk_settings.sync_max_age_seconds if max_age is None else max_age,
    }
    [(taken, is_fresh, is_backing_off, now, instance_id)] = locks.query_locked(TAKE_LEASE, **parameters)
    lease = Lease(lease_id, now, instance_id) if taken else None
    return LeaseState(is_fresh and not taken, is_backing_off and not taken, lease)


def release_lease(clerk_user_id: str, lease: Lease, *, back_off: bool = True) -> None:
    """Give up the lease. Writes `user_syncs`.

    With `back_off`, the lease is free `BACK_OFF_SECONDS` later; otherwise at once.
    """
    held = UserSync.objects.filter(clerk_user_id=clerk_user_id, lease=lease.id)
    free_at = ClockTimestamp() + timedelta(seconds=BACK_OFF_SECONDS) if back_off else None
    held.update(lease=None, lease_expires_at=free_at)


def expire(clerk_user_id: str) -> None:
    """Make the user's next list ask Clerk, even if the last listing is fresh. Writes `user_syncs`.

    A listing that is running now loses its lease, because its data may be stale.
    """
    sync = UserSync.objects.filter(clerk_user_id=clerk_user_id)
    sync.update(synced_at=None, lease=None, lease_expires_at=None)
