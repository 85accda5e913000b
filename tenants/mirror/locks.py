"""Locks of a transaction: of organizations, of users, and of users' primaries.

A writer shares the locks of the organizations and users that it writes, a deletion holds the lock of its
organization or user alone. Without them, a statement that began before a deletion was committed could insert
the deleted id after it. Whoever moves a user's primary holds the lock of that user's primary.

All ids of a kind share a limited number of locks, so that a page of 500 records does not fill PostgreSQL's
lock table. Locks of primaries are taken first, then those of organizations, then those of users, each in the
order of their numbers, and all of them before any row.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from clerk_integration.jobs.timeouts import IDLE_TIMEOUT, LOCK_TIMEOUT
from tenants.sql import query

ORGANIZATIONS = 0x636C6B01
PRIMARIES = 0x636C6B02
USERS = 0x636C6B05
"""First keys of the advisory locks; the numbers are arbitrary constants."""

LOCKS = 128
"""How many locks the organizations share, and how many the users."""

PRIMARY_LOCKS = 1024

REQUEST_LOCK_TIMEOUT = "2s"
"""How long a web request waits for a lock; a list is then answered from local rows."""

_lock_timeout: ContextVar[str] = ContextVar("lock_timeout", default=LOCK_TIMEOUT)

_LIMITS = f"""
    set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT}', true),
    set_config('lock_timeout', %(lock_timeout)s, true)"""

# For statements that begin with it and look at `locked`.
SHARED = f"""
WITH locks AS MATERIALIZED (
    SELECT DISTINCT kind, hashtext(id) & {LOCKS - 1} AS number
    FROM (SELECT {ORGANIZATIONS} AS kind, unnest(%(organizations)s::text[]) AS id
          UNION ALL SELECT {USERS}, unnest(%(users)s::text[])) AS ids
    ORDER BY kind, number),
locked AS MATERIALIZED (
    SELECT {_LIMITS}, pg_advisory_xact_lock_shared(kind, number) FROM locks)"""

SHARE = f"{SHARED} SELECT count(*) FROM locked"

HOLD = f"""
WITH locks AS MATERIALIZED (
    SELECT DISTINCT hashtext(id) & (%(count)s - 1) AS number FROM unnest(%(ids)s::text[]) AS id
    ORDER BY number),
locked AS MATERIALIZED (
    SELECT {_LIMITS}, pg_advisory_xact_lock(%(kind)s, number) FROM locks)
SELECT count(*) FROM locked
"""

HOLD_ALL = f"""
SELECT {_LIMITS}, pg_advisory_xact_lock({ORGANIZATIONS}, number)
FROM generate_series(0, {LOCKS - 1}) AS number
"""


def enter_request(**_: Any) -> None:
    """Let the locks of this thread wait as long as a web request may; a receiver of `request_started`."""
    _lock_timeout.set(REQUEST_LOCK_TIMEOUT)


def leave_request(**_: Any) -> None:
    """Undo `enter_request`; a receiver of `request_finished`."""
    _lock_timeout.set(LOCK_TIMEOUT)


def query_locked(statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement that sets `lock_timeout` for its transaction, and return its rows."""
    return query(statement, lock_timeout=_lock_timeout.get(), **parameters)


def share(*, organizations: Iterable[str | None] = (), users: Iterable[str] = ()) -> None:
    """Block deletions of these organizations and users until the end of the open transaction.

    None stands for the organization of a legacy tenant, which needs no lock.
    """
    linked = [clerk_org_id for clerk_org_id in organizations if clerk_org_id]
    query_locked(SHARE, organizations=linked, users=list(users))


def hold_organization(clerk_org_id: str) -> None:
    """Block all other writers of the organization until the end of the open transaction."""
    query_locked(HOLD, kind=ORGANIZATIONS, ids=[clerk_org_id], count=LOCKS)


def hold_all_organizations() -> None:
    """Block all other writers of organizations until the end of the open transaction."""
    query_locked(HOLD_ALL)


def hold_user(clerk_user_id: str) -> None:
    """Block all other writers of the user's memberships until the end of the open transaction."""
    query_locked(HOLD, kind=USERS, ids=[clerk_user_id], count=LOCKS)


def hold_primaries(clerk_user_ids: Iterable[str]) -> None:
    """Block changes of these users' primary tenants by others until the end of the open transaction."""
    query_locked(HOLD, kind=PRIMARIES, ids=list(clerk_user_ids), count=PRIMARY_LOCKS)
