"""Signals for other apps: sent after commit, one for each row that changed.

Receivers get plain values, not model instances, because the row may change again before the signal is sent.
If a receiver raises an exception, it is logged and the other receivers are called. `changes` maps a column to
the pair (old, new). The old value is the one that the writer read; it is None if another writer inserted the
row at the same time. A process that is killed between its commit and the signal sends no signal: a receiver
that needs every change must also compare the rows periodically.

* tenant_linked(tenant_id, clerk_org_id): a new tenant mirrors an organization, or a legacy tenant
  was linked. A mirror-only tenant that the link absorbs is deleted without a signal.
* tenant_updated(tenant_id, clerk_org_id, changes): mirrored columns changed, or name or slug of a legacy
  tenant (`clerk_org_id` is None). After an unlink, `clerk_org_id` is None, and `changes` holds it.
* tenant_deactivated(tenant_id, clerk_org_id, changes): its organization was deleted in Clerk;
  `changes` holds `status` and `deleted_at`.
* tenant_restored(tenant_id, clerk_org_id, changes): its organization was recorded as deleted but
  exists in Clerk; `changes` holds `status` and `deleted_at`.
* tenant_status_changed(tenant_id, clerk_org_id, changes): the tenant was suspended, deactivated or
  reactivated here; `changes` holds `status` and `suspension_reason`, those that changed.
* tenant_deleted(tenant_id, clerk_org_id): the tenant was deleted here with all its memberships.
* primary_changed(tenant_id, clerk_user_id): the user chose the tenant as primary.
* membership_changed(tenant_id, clerk_user_id, changes): a membership began (old values None),
  ended or changed its role; `changes` holds `role` and `is_active`.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import Signal

tenant_linked = Signal()
tenant_updated = Signal()
tenant_deactivated = Signal()
tenant_restored = Signal()
tenant_status_changed = Signal()
tenant_deleted = Signal()
primary_changed = Signal()
membership_changed = Signal()


Rows = Iterable[tuple[int, str | None, Mapping[str, Any] | None, Mapping[str, Any]]]
"""Written rows as tuples: tenant id, Clerk id, old columns (None if the row is new), new columns.

The Clerk id is the id of the organization for a tenant (None if it is legacy), and of the user for a
membership.
"""


def tenants_have_receivers() -> bool:
    """Return whether `announce_tenants` would send a signal to a receiver."""
    return tenant_linked.has_listeners() or tenant_updated.has_listeners()


def memberships_have_receivers() -> bool:
    """Return whether `announce_memberships` would send a signal to a receiver."""
    return membership_changed.has_listeners()


def announce_tenants(rows: Rows) -> None:
    """Send `tenant_linked` for each new row, and `tenant_updated` for each row with a changed column."""
    for tenant_id, clerk_org_id, before, after in rows:
        if before is None:
            _send(tenant_linked, tenant_id=tenant_id, clerk_org_id=clerk_org_id)
        elif changes := _changes(before, after):
            _send(tenant_updated, tenant_id=tenant_id, clerk_org_id=clerk_org_id, changes=changes)


def announce_link(tenant_id: int, clerk_org_id: str) -> None:
    """Send `tenant_linked` for one tenant."""
    _send(tenant_linked, tenant_id=tenant_id, clerk_org_id=clerk_org_id)


def announce_unlink(tenant_id: int, clerk_org_id: str) -> None:
    """Send `tenant_updated` for a tenant that was unlinked from its organization."""
    changes = {"clerk_org_id": (clerk_org_id, None)}
    _send(tenant_updated, tenant_id=tenant_id, clerk_org_id=None, changes=changes)


def announce_deactivation(tenant_id: int, clerk_org_id: str, changes: Mapping[str, Any]) -> None:
    """Send `tenant_deactivated` for a tenant whose organization was deleted in Clerk."""
    _send(tenant_deactivated, tenant_id=tenant_id, clerk_org_id=clerk_org_id, changes=changes)


def announce_restore(tenant_id: int, clerk_org_id: str, changes: Mapping[str, Any]) -> None:
    """Send `tenant_restored` for a tenant whose organization was recorded as deleted but exists in Clerk."""
    _send(tenant_restored, tenant_id=tenant_id, clerk_org_id=clerk_org_id, changes=changes)


def announce_status(
    tenant_id: int, clerk_org_id: str | None, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Send `tenant_status_changed` for a tenant that was suspended, deactivated or reactivated."""
    changes = _changes(before, after)
    _send(tenant_status_changed, tenant_id=tenant_id, clerk_org_id=clerk_org_id, changes=changes)


def announce_deletion(tenant_id: int, clerk_org_id: str | None) -> None:
    """Send `tenant_deleted` for a tenant that was deleted."""
    _send(tenant_deleted, tenant_id=tenant_id, clerk_org_id=clerk_org_id)


def announce_primary(tenant_id: int, clerk_user_id: str) -> None:
    """Send `primary_changed` for a user who chose a primary tenant."""
    _send(primary_changed, tenant_id=tenant_id, clerk_user_id=clerk_user_id)


def announce_memberships(rows: Rows) -> None:
    """Send `membership_changed` for each new row and for each row with a changed column."""
    for tenant_id, clerk_user_id, before, after in rows:
        if changes := _changes(before or dict.fromkeys(after), after):
            _send(membership_changed, tenant_id=tenant_id, clerk_user_id=clerk_user_id, changes=changes)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {column: (before[column], new) for column, new in after.items() if before[column] != new}


def _send(signal: Signal, **arguments: Any) -> None:
    if signal.has_listeners():
        transaction.on_commit(partial(signal.send_robust, sender=None, **arguments))
