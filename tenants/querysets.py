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
"""The last millisecond of the year 9999, which is the last that Python can hold."""

SHOWN_COLUMNS = frozenset(
    {"clerk_org_id", "name", "slug", "logo_url", "clerk_metadata", "status", "suspension_reason"}
)
"""The columns of a tenant that the API shows to all callers alike, apart from its times."""

CLERK_ADMIN_ROLE = "org:admin"
LEGACY_ADMIN_ROLES = ("owner", "admin")


class TenantQuerySet(QuerySet["Tenant"]):
    """Tenants, as a caller may see them."""

    def update(self, **values: Any) -> int:
        """Move `updated_at` with every column that the API shows, unless the caller sets it."""
        if SHOWN_COLUMNS & values.keys():
            values.setdefault("updated_at", Func(function="clock_timestamp"))
        return super().update(**values)

    def for_caller(self, clerk_user_id: str) -> Self:
        """Annotate each tenant with the caller's `caller_role`, `caller_joined_at` and `caller_is_primary`.

        Tenants of which the caller was never a member stay in, with a NULL role.
        """
        return self.annotate(
            mine=FilteredRelation("memberships", condition=Q(memberships__clerk_user_id=clerk_user_id)),
            caller_role=Case(When(mine__is_active=True, then=F("mine__role"))),
            caller_joined_at=_joined_at("mine__"),
            caller_is_primary=_is_primary_of(clerk_user_id),
        )

    def visible_to_member(self) -> Self:
        """Keep what a member may see: active tenants, and inactive ones that the caller administers.

        Use after `for_caller`.
        """
        return self.filter(Q(mine__is_active=True) & (Q(status="active") | is_admin("mine__", "")))

    def in_caller_order(self) -> Self:
        """The primary first, then by time of joining. Use after `for_caller`."""
        return self.order_by("-caller_is_primary", "caller_joined_at", "id")


class MembershipQuerySet(QuerySet["Membership"]):
    """Memberships of users."""

    def primary_of(self, clerk_user_id: str) -> Self:
        """At most one membership: the flagged active one of the user, else the earliest joined."""
        return (
            self.filter(clerk_user_id=clerk_user_id, is_active=True, tenant__status="active")
            .annotate(joined_at=_joined_at(""))
            .order_by("-is_primary", "joined_at", "tenant_id")[:1]
        )


def is_admin(membership: str, tenant: str) -> Q:
    """The condition of being an org admin; the arguments are lookup prefixes of the two rows."""
    return Q(**{f"{membership}role": CLERK_ADMIN_ROLE}) | Q(
        **{f"{membership}role__in": LEGACY_ADMIN_ROLES, f"{tenant}clerk_org_id__isnull": True}
    )


def _joined_at(prefix: str) -> Coalesce:
    """When a membership began: in Clerk if Clerk knows it, else when the row was made."""
    seconds = ExpressionWrapper(F(f"{prefix}clerk_created_at") / Value(1000.0), output_field=IntegerField())
    # What is stored from older versions may be later.
    plausible = Case(When(**{f"{prefix}clerk_created_at__lte": LATEST_STAMP}, then=seconds))
    in_clerk = Func(plausible, function="to_timestamp", output_field=DateTimeField())
    return Coalesce(in_clerk, F(f"{prefix}created_at"))


def _is_primary_of(clerk_user_id: str) -> Case:
    memberships: MembershipQuerySet = apps.get_model("tenants", "Membership").objects.all()
    primary = memberships.primary_of(clerk_user_id).values("tenant_id")
    return Case(When(pk=Subquery(primary), then=Value(True)), default=Value(False))
