"""Querysets of tenants and memberships; each method adds to one SQL statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.db.models import (
    Case,
    CharField,
    DateTimeField,
    ExpressionWrapper,
    F,
    Func,
    IntegerField,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
    Window,
)
from django.db.models.functions import Coalesce, RowNumber
from django.db.models.lookups import Exact

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


class IsoFormat(Func):
    """A time as ISO 8601 text in UTC, as Python and DRF write it: without a fraction if that is zero."""

    function = "to_char"
    template = (
        "replace(%(function)s(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"
        " '.000000Z', 'Z')"
    )
    output_field = CharField()


class TenantQuerySet(QuerySet["Tenant"]):
    """Tenants, with annotations and filters for one caller."""

    def update(self, **values: Any) -> int:
        """Update the rows; also set `updated_at` if `values` has one of SHOWN_COLUMNS and no `updated_at`."""
        if SHOWN_COLUMNS & values.keys():
            values.setdefault("updated_at", Func(function="clock_timestamp"))
        return super().update(**values)

    def visible_to(self, clerk_user_id: str) -> Self:
        """Keep the user's active tenants, and the inactive tenants that the user administers.

        Annotate each tenant with the user's `caller_role`, `caller_joined_at` and `caller_is_primary`. If
        the tenants are filtered further, `caller_is_primary` still refers to all of the user's tenants.
        """
        return self._of_member(clerk_user_id).annotate(caller_is_primary=_is_primary_of(clerk_user_id))

    def in_caller_list(self, clerk_user_id: str, *, active_only: bool) -> Self:
        """Return what `visible_to` returns, the primary first, then by time of joining.

        The query reads the memberships once: it finds the primary among its own rows. So do not filter it
        further.
        """
        tenants = self._of_member(clerk_user_id)
        if active_only:
            tenants = tenants.filter(status="active")
        tenants = tenants.annotate(caller_is_primary=_is_first_active())
        return tenants.order_by("-caller_is_primary", "caller_joined_at", "id")

    def json_values(self, fields: Mapping[str, str]) -> QuerySet[Tenant, dict[str, Any]]:
        """Select `fields` (name in JSON: column or annotation), with times as ISO 8601 text in UTC."""
        renamed = {name: self._json_value(source) for name, source in fields.items() if name != source}
        values: QuerySet[Tenant, dict[str, Any]] = self.annotate(**renamed).values(*fields)
        return values

    def _of_member(self, clerk_user_id: str) -> Self:
        # The annotations use the join of this filter. A later filter on `memberships` would join again.
        mine = self.filter(memberships__clerk_user_id=clerk_user_id, memberships__is_active=True).annotate(
            caller_role=F("memberships__role"), caller_joined_at=_joined_at("memberships__")
        )
        is_legacy_admin = Q(caller_role__in=LEGACY_ADMIN_ROLES, clerk_org_id__isnull=True)
        return mine.filter(Q(status="active") | Q(caller_role=CLERK_ADMIN_ROLE) | is_legacy_admin)

    def _json_value(self, source: str) -> F | Func:
        is_time = source not in self.query.annotations and isinstance(
            self.model._meta.get_field(source), DateTimeField
        )
        return IsoFormat(source) if is_time else F(source)


class MembershipQuerySet(QuerySet["Membership"]):
    """Memberships of users."""

    def primary_of(self, clerk_user_id: str) -> Self:
        """Return at most one active membership: the user's flagged one, else the earliest joined."""
        return (
            self.filter(clerk_user_id=clerk_user_id, is_active=True, tenant__status="active")
            .annotate(joined_at=_joined_at(""))
            .order_by("-is_primary", "joined_at", "tenant_id")[:1]
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


def _is_first_active() -> Case:
    """Return the condition for the user's primary among all rows of a list, in the order of `primary_of`."""
    inactive_last = Case(When(status="active", then=Value(0)), default=Value(1))
    position = Window(
        RowNumber(),
        order_by=[inactive_last, F("memberships__is_primary").desc(), F("caller_joined_at"), F("id")],
    )
    return Case(When(Q(status="active") & Q(Exact(position, 1)), then=Value(True)), default=Value(False))
