"""The admin pages of tenants, with their actions."""

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse

from clerk_integration.admin.readonly import ReadOnlyAdmin
from tenants.admin.actions import TenantActions
from tenants.models import Membership, Tenant


class LinkedFilter(admin.SimpleListFilter):
    """Filters by link: tenants with an organization in Clerk, or legacy tenants."""

    title = "organization"
    parameter_name = "linked"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices of the filter."""
        return [("true", "Linked to Clerk"), ("false", "Legacy")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> QuerySet[Tenant]:
        """Return the tenants of the chosen kind."""
        if self.value() not in ("true", "false"):
            return queryset
        return queryset.filter(clerk_org_id__isnull=self.value() == "false")


@admin.register(Tenant)
class TenantAdmin(TenantActions, ReadOnlyAdmin):
    """Lists and shows tenants, read-only, with actions that call Clerk."""

    list_display = ("name", "clerk_org_id", "slug", "status", "last_synced_at", "members")
    list_filter = ("status", LinkedFilter)
    search_fields = ("name", "slug", "clerk_org_id")
    ordering = ("name", "id")
    fieldsets = (
        (
            "Organization",
            {
                "fields": (
                    "name",
                    "slug",
                    "clerk_org_id",
                    "logo_url",
                    "clerk_metadata",
                    "clerk_created_at",
                    "clerk_updated_at",
                )
            },
        ),
        ("Local", {"fields": ("status", "suspension_reason", "deleted_at", "members")}),
        ("Times", {"fields": ("created_at", "updated_at", "last_synced_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        """Annotate `members_count`, the number of active members, by a subquery for each row of the page."""
        active = Membership.objects.filter(tenant=OuterRef("pk"), is_active=True).order_by()
        counts = active.values("tenant").annotate(count=Count("pk")).values("count")
        tenants: QuerySet[Tenant] = super().get_queryset(request)
        return tenants.annotate(members_count=Coalesce(Subquery(counts), 0, output_field=IntegerField()))

    @transaction.non_atomic_requests
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list or run an action, outside the transaction of ATOMIC_REQUESTS: actions call Clerk."""
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    @admin.display(description="active members")
    def members(self, tenant: Any) -> int:
        """Return the number of active members."""
        return int(tenant.members_count)
