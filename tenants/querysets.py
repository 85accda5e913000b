"""Querysets of tenants and memberships; each method adds to one SQL statement."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from django.apps import apps
from django.db.models import (
    Case,
    CharField,
    DateTimeField,
    Exists,
    ExpressionWrapper,
    F,
    Func,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
    Window,
)
from django.db.models.functions import Coalesce, Now, RowNumber
from django.db.models.lookups import Exact

from tenants.sql import IsoFormat, JsonKeys, is_in_array, name_matches

if TYPE_CHECKING:
    from tenants.models import Membership, Tenant, TenantHistory  # noqa: F401  (the type parameters below)

LATEST_STAMP = 253_402_300_799_999
"""The last millisecond of the year 9999, the latest that Python's datetime can hold."""

SHOWN_COLUMNS = frozenset(
    {"clerk_org_id", "name", "slug", "logo_url", "clerk_metadata", "status", "suspension_reason"}
)
"""The columns of a tenant that the API shows with the same value to every caller, except times."""

OUT_OF_DATE = timedelta(days=1)
"""A tenant that was not compared with Clerk for longer is out of date: a full sync runs every night."""

NUL = "\0"
"""The character that no text of PostgreSQL contains, so a search for it finds nothing."""

MAX_ID_DIGITS = 18
"""A number with more digits may not fit into a bigint."""

CLERK_ADMIN_ROLE = "org:admin"
LEGACY_ADMIN_ROLES = ("owner", "admin")


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

    def matching(
        self,
        *,
        search: str = "",
        status: str | None = None,
        linked: bool | None = None,
        clerk_org_id: str | None = None,
    ) -> Self:
        """Keep the tenants that fulfil every condition that is given.

        A tenant matches `search` if each word of it begins a word of the name, or if it is the slug or the
        id of the organization.
        """
        conditions = Q()
        if search:
            found = self.model._default_manager.all().found_by_name(search)
            # With a join, PostgreSQL would split the names of many tenants into words, in the order of the
            # page, instead of using the indexes.
            conditions &= Q(is_in_array("pk", found.order_by().values("pk")))
        if status is not None:
            conditions &= Q(status=status)
        if linked is not None:
            conditions &= Q(clerk_org_id__isnull=not linked)
        if clerk_org_id is not None:
            conditions &= Q(clerk_org_id=clerk_org_id)
        return self.filter(conditions)

    def found_by_staff(self, text: str) -> Self:
        """Keep the tenants that `matching` finds, that have this user as a member, or that have this id."""
        if NUL in text:
            return self.none()
        memberships = apps.get_model("tenants", "Membership")._default_manager
        of_member = memberships.filter(clerk_user_id=text).order_by().values("tenant_id")
        found = self.model._default_manager.all().found_by_name(text)
        is_found = Q(is_in_array("pk", found.order_by().values("pk"))) | Q(is_in_array("pk", of_member))
        if text.isdecimal() and len(text) <= MAX_ID_DIGITS:
            is_found |= Q(pk=int(text))
        return self.filter(is_found)

    def found_by_name(self, search: str) -> Self:
        """Keep the tenants with words that begin so in the name, or with this slug or organization id."""
        if NUL in search:
            return self.none()
        return self.filter(Q(name_matches(search)) | Q(slug=search) | Q(clerk_org_id=search))

    def drifted(self) -> Self:
        """Keep the tenants that differed from Clerk in the last dry run, and were not synced since.

        There are none after a full sync that began later than the dry run. Runs that skipped the memberships
        do not count.
        """
        runs = apps.get_model("tenants", "SyncRun")._default_manager.filter(
            state="completed", cursor__skip_memberships=False
        )
        full_syncs = runs.filter(kind="full_sync", started_at__gte=OuterRef("started_at"))
        last = runs.filter(~Exists(full_syncs), kind="dry_run").order_by("-id")
        slices = apps.get_model("tenants", "SyncRunSlice")._default_manager
        found = slices.filter(run=Subquery(last.values("pk")[:1])).values(clerk_org_id=JsonKeys("outcomes"))
        not_synced_since = Q(last_synced_at=None) | Q(
            last_synced_at__lt=Subquery(last.values("started_at")[:1])
        )
        return self.filter(not_synced_since, is_in_array("clerk_org_id", found))

    def never_synced(self) -> Self:
        """Keep the linked tenants of which no data from Clerk has been stored."""
        return self._living().filter(last_synced_at=None)

    def out_of_date(self, age: timedelta = OUT_OF_DATE) -> Self:
        """Keep the linked tenants that no sync has compared with Clerk for `age`.

        A full sync compares all tenants, but it writes `last_synced_at` only for those that it changes. So if
        a complete one began in that time, no tenant is out of date.
        """
        since = Now() - age
        full_syncs = apps.get_model("tenants", "SyncRun")._default_manager.filter(
            kind="full_sync", state="completed", started_at__gte=since, cursor__skip_memberships=False
        )
        return self._living().filter(~Exists(full_syncs), last_synced_at__lt=since)

    def for_staff(self) -> Self:
        """Annotate the tenants as `visible_to` does, for a caller who is a member of none."""
        return self.annotate(
            caller_role=Value(None, output_field=CharField()), caller_is_primary=Value(False)
        )

    def _living(self) -> Self:
        """Keep the linked tenants that are not deleted in Clerk."""
        return self.filter(clerk_org_id__isnull=False, deleted_at=None)

    def _of_member(self, clerk_user_id: str) -> Self:
        # The annotations use the join of this filter. A later filter on `memberships` would join again.
        mine = self.filter(memberships__clerk_user_id=clerk_user_id, memberships__is_active=True).annotate(
            caller_role=F("memberships__role"), caller_joined_at=_joined_at("memberships__")
        )
        is_legacy_admin = Q(caller_role__in=LEGACY_ADMIN_ROLES, clerk_org_id__isnull=True)
        return mine.filter(Q(status="active") | Q(caller_role=CLERK_ADMIN_ROLE) | is_legacy_admin)


class HistoryQuerySet(QuerySet["TenantHistory"]):
    """Changes of tenants and memberships."""

    def of_tenant(self, tenant_id: int) -> QuerySet[Any, dict[str, Any]]:
        """Return the tenant's changes as dicts, newest first, with their `time` as ISO 8601 text in UTC."""
        changes = self.filter(tenant_id=tenant_id).annotate(time=IsoFormat("at")).order_by("-id")
        rows = changes.values("time", "source", "actor", "action", "clerk_user_id", "changes")
        return cast("QuerySet[Any, dict[str, Any]]", rows)


class MembershipQuerySet(QuerySet["Membership"]):
    """Memberships of users."""

    def of_tenant(self, tenant_id: int) -> Self:
        """Return the memberships of one tenant by time of joining, with `joined_at`."""
        return self.filter(tenant=tenant_id).with_joined_at().order_by("joined_at", "id")

    def with_joined_at(self) -> Self:
        """Annotate `joined_at`, the time when the membership began."""
        return self.annotate(joined_at=_joined_at(""))

    def found_by_staff(self, text: str) -> Self:
        """Keep the memberships with this user id or id, and those of the tenants that `text` finds."""
        if NUL in text:
            return self.none()
        tenants: TenantQuerySet = apps.get_model("tenants", "Tenant")._default_manager.all()
        of_tenants = is_in_array("tenant_id", tenants.found_by_name(text).order_by().values("pk"))
        return self.filter(Q(clerk_user_id=text) | Q(clerk_membership_id=text) | Q(of_tenants))

    def with_primary(self) -> Self:
        """Annotate `is_users_primary`: whether the API answers the tenant as the user's primary."""
        primary = self.model._default_manager.all().primary_of(OuterRef("clerk_user_id")).values("pk")
        is_primary = Case(When(pk=Subquery(primary), then=Value(True)), default=Value(False))
        return self.annotate(is_users_primary=is_primary)

    def primary_of(self, clerk_user_id: str | OuterRef) -> Self:
        """Return at most one active membership: the user's flagged one, else the earliest joined."""
        return (
            self.filter(clerk_user_id=clerk_user_id, is_active=True, tenant__status="active")
            .with_joined_at()
            .order_by("-is_primary", "joined_at", "tenant_id")[:1]
        )


def json_values(queryset: QuerySet[Any, Any], fields: Mapping[str, str]) -> QuerySet[Any, dict[str, Any]]:
    """Select `fields` (name in JSON: column or annotation), with times as ISO 8601 text in UTC."""
    renamed = {name: _json_value(queryset, source) for name, source in fields.items() if name != source}
    values: QuerySet[Any, dict[str, Any]] = queryset.annotate(**renamed).values(*fields)
    return values


def _json_value(queryset: QuerySet[Any, Any], source: str) -> F | IsoFormat:
    annotation = queryset.query.annotations.get(source)
    field = queryset.model._meta.get_field(source) if annotation is None else annotation.output_field
    return IsoFormat(source) if isinstance(field, DateTimeField) else F(source)


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
