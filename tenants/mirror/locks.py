"""Take advisory locks on organizations, users and users' primaries until the end of the transaction.

A writer takes shared locks on the organizations and users that it writes. A deletion takes an exclusive lock
on its organization or user. Without these locks, a statement that began before a deletion was committed could
insert the deleted id afterwards. A change of a user's primary takes an exclusive lock on the user's primary.

Ids are hashed to a limited number of locks, so that a page of 500 records does not fill PostgreSQL's lock
table. A transaction locks primaries first, then organizations, then users, each in the order of the lock
numbers, and then rows.
"""

from collections.abc import Iterable
from typing import Any

from clerk_integration.jobs.timeouts import IDLE_TIMEOUT, LOCK_TIMEOUT
from clerk_integration.web_requests import is_serving_request
from tenants.history import SET_ORIGIN, origin
from tenants.sql import query

ORGANIZATIONS = 0x636C6B01
PRIMARIES = 0x636C6B02
USERS = 0x636C6B05
"""First keys of the advisory locks; the numbers are arbitrary constants."""

LOCKS = 128
"""The number of locks for organizations, and the number of locks for users."""

PRIMARY_LOCKS = 1024

REQUEST_LOCK_TIMEOUT = "2s"
"""The time that a web request waits for a lock; after it, a list is answered from local rows."""

_LIMITS = f"""
    set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT}', true),
    set_config('lock_timeout', %(lock_timeout)s, true),
    {SET_ORIGIN}"""

# The beginning of a statement. The statement must select from `locked` to take the locks.
SHARED = f"""
WITH limits AS MATERIALIZED (
    SELECT {_LIMITS}),
locks AS MATERIALIZED (
    SELECT DISTINCT kind, hashtext(id) & {LOCKS - 1} AS number
    FROM (SELECT {ORGANIZATIONS} AS kind, unnest(%(organizations)s::text[]) AS id
          UNION ALL SELECT {USERS}, unnest(%(users)s::text[])) AS ids
    ORDER BY kind, number),
locked AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(kind, number) FROM limits CROSS JOIN locks)"""

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


def query_locked(statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement that sets lock timeout, source and actor for its transaction; return its rows."""
    lock_timeout = REQUEST_LOCK_TIMEOUT if is_serving_request() else LOCK_TIMEOUT
    return query(statement, lock_timeout=lock_timeout, **origin(), **parameters)


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
    """Block other changes of these users' primary tenants until the end of the open transaction."""
    if ids := list(clerk_user_ids):
        query_locked(HOLD, kind=PRIMARIES, ids=ids, count=PRIMARY_LOCKS)
