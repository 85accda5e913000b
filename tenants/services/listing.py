"""List one user's tenants: the lease, the listing in Clerk, and the statement that reads the rows."""

import time
from contextlib import suppress
from enum import StrEnum
from functools import cache
from typing import Any

from django.db import DatabaseError

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkNotAsked
from clerk_integration.instance import (
    refuse_other_instance,
)
from clerk_integration.organizations import (
    get_user_clerk_orgs,
)
from clerk_integration.wire.breaker import waiting_for_clerk
from tenants.creation.instances import require_own_instance
from tenants.mirror import leases, writer
from tenants.models import Tenant
from tenants.querysets import json_values
from tenants.sql import json_array, query, with_names

LEASE_MARGIN_SECONDS = 5.0
"""A lease lives this much longer than the deadline for Clerk: the time to write the listing."""

LEASE_POLL_SECONDS = 0.1

JsonFields = tuple[tuple[str, str], ...]
"""Names in JSON, each with its column or annotation."""


class SyncState(StrEnum):
    """The source of the data in a list of tenants; the value of the header `X-Clerk-Sync`."""

    SYNCED = "synced"
    FRESH = "fresh"
    SKIPPED = "skipped"
    STALE = "stale"


def list_user(clerk_user_id: str, lease: leases.Lease) -> int:
    """List all memberships of the user in Clerk, mirror them, and return their number.

    Writes what `writer.write_user_listing` does, which closes the lease. If this fails, release the
    lease, write nothing else, and raise ClerkError (for example WrongInstance) or DatabaseError.
    """
    try:
        if lease.instance_id is None:
            require_own_instance()
        else:
            refuse_other_instance(lease.instance_id)
        memberships = get_user_clerk_orgs(clerk_user_id)
        writer.write_user_listing(
            clerk_user_id,
            memberships,
            lease=lease.id,
            listed_at=lease.listed_at,
            complete=memberships.complete,
            skipped_ids=memberships.skipped_ids,
        )
    except Exception as error:
        with suppress(DatabaseError):  # The lease expires by itself.
            leases.release_lease(clerk_user_id, lease, back_off=not isinstance(error, ClerkNotAsked))
        raise
    return len(memberships)


def await_lease(clerk_user_id: str, deadline: float, *, max_age: float | None = None) -> leases.LeaseState:
    """Wait until the user's memberships are fresh, or this process has the lease to list them.

    `max_age` is as in `leases.take_lease`. Return with neither if the deadline passes first, if a listing
    failed in the last `leases.BACK_OFF_SECONDS`, or if too many threads wait for Clerk.
    """
    state = _take_lease(clerk_user_id, max_age)
    if _is_decided(state):
        return state
    with suppress(ClerkNotAsked), waiting_for_clerk():
        while not _is_decided(state) and time.monotonic() < deadline:
            time.sleep(LEASE_POLL_SECONDS)
            state = _take_lease(clerk_user_id, max_age)
    return state


def read_user_tenants(
    clerk_user_id: str, fields: JsonFields, active_only: bool
) -> tuple[bool, list[dict[str, Any]]]:
    """Return whether the user's memberships are fresh, and the user's tenants."""
    statement, constants = _list_statement(fields, active_only)
    max_age = clerk_settings.sync_max_age_seconds
    [(is_fresh, tenants)] = query(statement, user_id=clerk_user_id, max_age=max_age, **constants)
    return is_fresh, tenants


def _take_lease(clerk_user_id: str, max_age: float | None) -> leases.LeaseState:
    seconds = clerk_settings.timeout_seconds + LEASE_MARGIN_SECONDS
    return leases.take_lease(clerk_user_id, seconds=seconds, max_age=max_age)


def _is_decided(state: leases.LeaseState) -> bool:
    return state.is_fresh or state.is_backing_off or state.lease is not None


@cache
def _list_statement(fields: JsonFields, active_only: bool) -> tuple[str, dict[str, Any]]:
    """Return the statement of `read_user_tenants`, and its constants.

    It is kept because Django needs milliseconds to build the query.
    """
    placeholder = "the user's id"
    tenants = Tenant.objects.in_caller_list(placeholder, active_only=active_only)
    rows, constants = with_names(json_array(json_values(tenants, dict(fields))), user_id=placeholder)
    return f"SELECT {leases.IS_FRESH}, {rows}", constants
