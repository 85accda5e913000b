"""When a user's memberships were last listed whole, and who may list them now.

The lease is one conditional statement in a transaction of its own: it makes the listing
single-flight across processes without a connection waiting in an open transaction for Clerk.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from clerk_integration.conf import clerk_settings
from tenants.sql import execute, query

TAKE_LEASE = """
WITH known AS (
    SELECT synced_at, lease_expires_at FROM user_syncs WHERE clerk_user_id = %(user_id)s),
taken AS (
    INSERT INTO user_syncs (clerk_user_id, lease, lease_expires_at)
    SELECT %(user_id)s, %(lease)s, clock_timestamp() + %(lease_seconds)s * interval '1 second'
    WHERE NOT EXISTS (
        SELECT FROM known
        WHERE synced_at > clock_timestamp() - %(max_age)s * interval '1 second'
           OR lease_expires_at > clock_timestamp())
    ON CONFLICT (clerk_user_id) DO UPDATE
        SET lease = excluded.lease, lease_expires_at = excluded.lease_expires_at
        WHERE coalesce(user_syncs.lease_expires_at, '-infinity') <= clock_timestamp()
          AND coalesce(user_syncs.synced_at, '-infinity')
              <= clock_timestamp() - %(max_age)s * interval '1 second'
    RETURNING clerk_user_id)
SELECT EXISTS (SELECT FROM taken),
       EXISTS (SELECT FROM known WHERE synced_at > clock_timestamp() - %(max_age)s * interval '1 second'),
       clock_timestamp()
"""

RELEASE_LEASE = """
UPDATE user_syncs SET lease = NULL, lease_expires_at = NULL
WHERE clerk_user_id = %(user_id)s AND lease = %(lease)s
"""

EXPIRE = """
UPDATE user_syncs SET synced_at = NULL, lease = NULL, lease_expires_at = NULL
WHERE clerk_user_id = %(user_id)s
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to list one user's memberships; `listed_at` is the database's clock when it began."""

    id: UUID
    listed_at: datetime


@dataclass(frozen=True, slots=True)
class LeaseState:
    """How a user's memberships stand: fresh, ours to list (`lease`), or being listed by somebody."""

    is_fresh: bool
    lease: Lease | None


def take_lease(clerk_user_id: str, *, seconds: float) -> LeaseState:
    """Find out whether the user's memberships are fresh and, if not, try to become their lister.

    Writes `user_syncs` in one statement, and nothing when they are fresh or somebody else holds an
    unexpired lease. Fresh means listed whole within `CLERK_SYNC_MAX_AGE_SECONDS`. The lease lapses
    after `seconds`, so that a killed process holds up nobody for longer.
    """
    lease_id = uuid4()
    parameters = {
        "user_id": clerk_user_id,
        "lease": lease_id,
        "lease_seconds": seconds,
        "max_age": clerk_settings.sync_max_age_seconds,
    }
    [(taken, is_fresh, now)] = query(TAKE_LEASE, **parameters)
    return LeaseState(is_fresh=is_fresh and not taken, lease=Lease(lease_id, now) if taken else None)


def release_lease(clerk_user_id: str, lease: Lease) -> None:
    """Give up the lease without having listed, so that the next request may try. Writes `user_syncs`."""
    execute(RELEASE_LEASE, user_id=clerk_user_id, lease=lease.id)


def expire(clerk_user_id: str) -> None:
    """Let the user's next list ask Clerk, however fresh the last one is. Writes `user_syncs`.

    A list that is running now loses its lease: what it was told may be from before.
    """
    execute(EXPIRE, user_id=clerk_user_id)
