"""Attribute changes to their source and actor, for the history of tenants; delete old history.

Database triggers write the history, within the statement that changes a row (migration `0009_history`), so
that no writer can leave it out. They read the source and the actor from two settings of the transaction,
which `set_config` sets until the transaction ends: this also works through PgBouncer in transaction mode.
A transaction that sets neither, for example a statement in a shell, is recorded with the source `command`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef

from clerk_integration.conf import is_days, setting
from tenants.models import Tenant, TenantHistory
from tenants.sql import ClockTimestamp, execute

SET_ORIGIN = """
    set_config('tenants.source', %(source)s, true),
    set_config('tenants.actor', %(actor)s, true)"""
"""Expressions for a SELECT; `origin` returns their parameters."""

BATCH = 10_000
"""Rows deleted in one statement, so that no lock is held for long."""

logger = logging.getLogger(__name__)

_origin: ContextVar[tuple[str, str]] = ContextVar("origin", default=(TenantHistory.Source.SYNC, ""))


def origin() -> dict[str, str]:
    """Return the parameters of SET_ORIGIN: the current source and actor."""
    source, actor = _origin.get()
    return {"source": source, "actor": actor}


@contextmanager
def attributed_to(source: TenantHistory.Source, actor: str = "") -> Iterator[None]:
    """Attribute the changes of the transactions that begin in the block; the default source is `sync`."""
    token = _origin.set((source, actor))
    try:
        yield
    finally:
        _origin.reset(token)


@contextmanager
def acting(acting_user: Any) -> Iterator[None]:
    """Attribute the changes of the transactions that begin in the block to a user.

    `acting_user` is a Django user (source `staff`), a Clerk user or its id (source `api`), or None for the
    system (source `command`).
    """
    if acting_user is None:
        source, actor = TenantHistory.Source.COMMAND, ""
    elif isinstance(acting_user, str):
        source, actor = TenantHistory.Source.API, acting_user
    elif clerk_user_id := getattr(acting_user, "clerk_user_id", None):
        source, actor = TenantHistory.Source.API, clerk_user_id
    else:
        source, actor = TenantHistory.Source.STAFF, str(acting_user.get_username())
    with attributed_to(source, actor):
        yield


@contextmanager
def change_by(acting_user: Any) -> Iterator[None]:
    """Open a transaction whose changes are attributed to the user; see `acting`."""
    with acting(acting_user), transaction.atomic():
        execute(f"SELECT {SET_ORIGIN}", **origin())
        yield


def delete_old_history() -> int:
    """Delete history that is older than TENANT_HISTORY_DAYS, in batches; return how many rows.

    Keep the links of tenants that exist: they tell a linked tenant from one that only mirrors its
    organization. Delete nothing if the setting is 0 or malformed.
    """
    days = _days_to_keep()
    if days == 0:
        return 0
    old = TenantHistory.objects.filter(at__lt=ClockTimestamp() - timedelta(days=days)).order_by("id")
    exists = Exists(Tenant.objects.filter(pk=OuterRef("tenant_id")))
    old = old.exclude(exists, action=TenantHistory.Action.LINKED)
    deleted = 0
    while batch := TenantHistory.objects.filter(pk__in=old.values("pk")[:BATCH]).delete()[0]:
        deleted += batch
    return deleted


def _days_to_keep() -> int:
    """Return TENANT_HISTORY_DAYS; 0, which keeps everything, if it is malformed."""
    days = setting("TENANT_HISTORY_DAYS")
    if is_days(days):
        return int(days)
    logger.error("TENANT_HISTORY_DAYS is not a number of days. No history was deleted. Correct it.")
    return 0
