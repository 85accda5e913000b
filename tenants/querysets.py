"""Querysets of tenants and memberships; each method adds to one SQL statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.db.models import (
    Case,
    DateTimeField,
    ExpressionWrapper,
    F,
    FilteredRelation,
    Func,
    IntegerField,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce

if TYPE_CHECKING:
    from tenants.models import Membership, Tenant  # noqa: F401  (the type parameters below)

LATEST_STAMP = 253_402_300_799_999
"""The last millisecond of the year 9999, the latest that Python's datetime can hold."""

SHOWN_COLUMNS = frozenset(
    {"clerk_org_id", "name", "slug", "logo_url", "clerk_metadata", "status", "suspension_reason"}
)
"""The columns of a tenant that the API shows with the same value to every caller, except times."""

CLERK_ADMIN_ROLE = "org:admin"
LEGACY_ADMIN_ROLES = ("owner", "admin")


class TenantQuerySet(QuerySet["Tenant"]):
    """Tenants, with annotations and filters for one caller."""

    def update(self, **values: Any) -> int:
        """Update the rows; also set `updated_at` if `values` has one of SHOWN_COLUMNS and no `updated_at`."""
        if SHOWN_COLUMNS & values.keys():
            values.setdefault("updated_at", Func(function="clock_timestamp"))
        return super().update(**values)

    def for_caller(self, clerk_user_id: str) -> Self:
        """Annotate each tenant with the caller's `caller_role`, `caller_joined_at` and `caller_is_primary`.

        Keeps tenants of which the caller was never a member, with a NULL role.
        """
        return self.annotate(
            mine=FilteredRelation("memberships", condition=Q(memberships__clerk_user_id=clerk_user_id)),
            caller_role=Case(When(mine__is_active=True, then=F("mine__role"))),
            caller_joined_at=_joined_at("mine__"),
            caller_is_primary=_is_primary_of(clerk_user_id),
        )

    def visible_to_member(self) -> Self:
        """Keep the caller's active tenants, and the inactive tenants that the caller administers.

        Use after `for_caller`.
        """
        return self.filter(Q(mine__is_active=True) & (Q(status="active") | is_admin("mine__", "")))

    def in_caller_order(self) -> Self:
        """Order by primary first, then by time of joining. Use after `for_caller`."""
        return self.order_by("-caller_is_primary", "caller_joined_at", "id")


class MembershipQuerySet(QuerySet["Membership"]):
    """Memberships of users."""

    def primary_of(self, clerk_user_id: str) -> Self:
        """Return at most one active membership: the user's flagged one, else the earliest joined."""
        return (
            self.filter(clerk_user_id=clerk_user_id, is_active=True, tenant__status="active")
            .annotate(joined_at=_joined_at(""))
            .order_by("-is_primary", "joined_at", "tenant_id")[:1]
        )


def is_admin(membership: str, tenant: str) -> Q:
    """Return the condition for an admin's membership; the arguments are lookup prefixes of the two rows."""
    return Q(**{f"{membership}role": CLERK_ADMIN_ROLE}) | Q(
        **{f"{membership}role__in": LEGACY_ADMIN_ROLES, f"{tenant}clerk_org_id__isnull": True}
    )


def _joined_at(prefix: str) -> Coalesce:
    """Return the expression for a membership's start: its creation in Clerk, else the row's `created_at`."""
    seconds = ExpressionWrapper(F(f"{prefix}clerk_created_at") / Value(1000.0), output_field=IntegerField())
    # Older versions may have stored a later time.
    plausible = Case(When(**{f"{prefix}clerk_created_at__lte": LATEST_STAMP}, then=seconds))
    in_clerk = Func(plausible, function="to_timestamp", output_field=DateTimeField())
    return Coalesce(in_clerk, F(f"{prefix}created_at"))


def _is_primary_of(clerk_user_id: str) -> Case:
    memberships: MembershipQuerySet = apps.get_model("tenants", "Membership").objects.all()
    primary = memberships.primary_of(clerk_user_id).values("tenant_id")
    return Case(When(pk=Subquery(primary), then=Value(True)), default=Value(False))
