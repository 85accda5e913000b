"""Locks between the writers of Clerk's records and the deletions of organizations and users.

A writer shares the locks of the organizations and users that it writes, a deletion holds the lock of its
organization or user alone, both until the end of their transaction. Without them, a statement that began
before a deletion was committed could insert the deleted id after it.

All ids of a kind share `LOCKS` locks, so that a page of 500 records does not fill PostgreSQL's lock table.
Locks of organizations are taken before those of users, each in the order of their numbers, and all of them
before any row.
"""

from collections.abc import Iterable

from clerk_integration.jobs.timeouts import SET_TIMEOUTS
from tenants.sql import execute

ORGANIZATIONS = 0x636C6B01
USERS = 0x636C6B05
"""First keys of the advisory locks; any constants of ours will do."""

LOCKS = 128

# For statements that begin with it and look at `locked`.
SHARED = f"""
WITH locks AS MATERIALIZED (
    SELECT DISTINCT kind, hashtext(id) & {LOCKS - 1} AS number
    FROM (SELECT {ORGANIZATIONS} AS kind, unnest(%(organizations)s::text[]) AS id
          UNION ALL SELECT {USERS}, unnest(%(users)s::text[])) AS ids
    ORDER BY kind, number),
locked AS MATERIALIZED (
    SELECT {SET_TIMEOUTS}, pg_advisory_xact_lock_shared(kind, number) FROM locks)"""

SHARE = f"{SHARED} SELECT count(*) FROM locked"

HOLD = f"SELECT {SET_TIMEOUTS}, pg_advisory_xact_lock(%(kind)s, hashtext(%(id)s) & {LOCKS - 1})"


def share(*, organizations: Iterable[str | None] = (), users: Iterable[str] = ()) -> None:
    """Keep deletions of these organizations and users away until the end of the open transaction.

    None stands for the organization of a legacy tenant, which needs no lock.
    """
    execute(SHARE, organizations=[clerk_id for clerk_id in organizations if clerk_id], users=list(users))


def hold_organization(clerk_org_id: str) -> None:
    """Keep all other writers of the organization away until the end of the open transaction."""
    execute(HOLD, kind=ORGANIZATIONS, id=clerk_org_id)


def hold_user(clerk_user_id: str) -> None:
    """Keep all other writers of the user's memberships away until the end of the open transaction."""
    execute(HOLD, kind=USERS, id=clerk_user_id)
