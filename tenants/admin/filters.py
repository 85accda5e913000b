"""The filters of the lists of tenants and memberships. An index can answer each choice."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

Condition = Callable[[Any], Any]
"""A function from a queryset to a queryset."""


class ConditionFilter(admin.SimpleListFilter):
    """A filter whose choices are the keys of `conditions`, each with a label and a condition."""

    conditions: ClassVar[dict[str, tuple[str, Condition]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices of the filter."""
        return [(key, label) for key, (label, _) in self.conditions.items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Return the rows that fulfil the chosen condition; all for an unknown choice."""
        chosen = self.conditions.get(self.value() or "")
        return queryset if chosen is None else chosen[1](queryset)


class LinkedFilter(ConditionFilter):
    """Linked tenants, or legacy tenants."""

    title = "organization"
    parameter_name = "linked"
    conditions: ClassVar[dict[str, tuple[str, Condition]]] = {
        "true": ("Linked to Clerk", lambda tenants: tenants.filter(clerk_org_id__isnull=False)),
        "false": ("Legacy", lambda tenants: tenants.filter(clerk_org_id=None)),
    }


class DeletedFilter(ConditionFilter):
    """Tenants whose organization is recorded as deleted, or all others."""

    title = "deleted in Clerk"
    parameter_name = "deleted"
    conditions: ClassVar[dict[str, tuple[str, Condition]]] = {
        "true": ("Yes", lambda tenants: tenants.filter(deleted_at__isnull=False)),
        "false": ("No", lambda tenants: tenants.filter(deleted_at=None)),
    }


class SyncedFilter(ConditionFilter):
    """Linked tenants by the age of their data."""

    title = "last compared with Clerk"
    parameter_name = "synced"
    conditions: ClassVar[dict[str, tuple[str, Condition]]] = {
        "never": ("Never", lambda tenants: tenants.never_synced()),
        "day": ("More than a day ago", lambda tenants: tenants.out_of_date(timedelta(days=1))),
        "week": ("More than a week ago", lambda tenants: tenants.out_of_date(timedelta(days=7))),
    }


class DriftFilter(ConditionFilter):
    """Tenants that differed from Clerk in the last dry run."""

    title = "difference from Clerk"
    parameter_name = "drift"
    conditions: ClassVar[dict[str, tuple[str, Condition]]] = {
        "true": ("Differed in the last dry run", lambda tenants: tenants.drifted()),
    }


class ActiveFilter(ConditionFilter):
    """Active memberships, or memberships that have ended."""

    title = "state"
    parameter_name = "active"
    conditions: ClassVar[dict[str, tuple[str, Condition]]] = {
        "true": ("Active", lambda memberships: memberships.filter(is_active=True)),
        "false": ("Ended", lambda memberships: memberships.filter(is_active=False)),
    }
