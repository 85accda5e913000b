"""The admin pages of tenants: the list, the page of one tenant, and the page that renames it."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants.admin.actions import TenantActions
from tenants.admin.dashboard import DashboardPage
from tenants.admin.filters import DeletedFilter, DriftFilter, LinkedFilter, SyncedFilter
from tenants.admin.pages import StyledAdmin
from tenants.models import Membership, Tenant
from tenants.templatetags.tenants_admin import ago, foreign, link_badge, status_badge


@admin.register(Tenant)
class TenantAdmin(TenantActions, DashboardPage, StyledAdmin):
    """Lists and shows tenants, read-only, with the actions of staff."""

    list_display = ("shown_name", "organization", "shown_status", "shown_slug", "synced", "members")
    list_filter = ("status", LinkedFilter, DriftFilter, SyncedFilter, DeletedFilter)
    search_fields = ("name",)  # Shows the search field; `get_search_results` decides what it finds.
    search_help_text = "Name, slug, organization or user id"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        """Annotate `members_count`, the number of active members, by a subquery for each row of the page."""
        active = Membership.objects.filter(tenant=OuterRef("pk"), is_active=True).order_by()
        counts = active.values("tenant").annotate(count=Count("pk")).values("count")
        tenants: QuerySet[Tenant] = super().get_queryset(request)
        return tenants.annotate(members_count=Coalesce(Subquery(counts), 0, output_field=IntegerField()))

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[Tenant], bool]:
        """Return the tenants that the indexes find; see `TenantQuerySet.found_by_staff`."""
        text = search_term.strip()
        return (queryset.found_by_staff(text) if text else queryset), False

    @admin.display(description="name")
    def shown_name(self, tenant: Tenant) -> SafeString:
        """Return the name."""
        return foreign(tenant)

    @admin.display(description="organization")
    def organization(self, tenant: Tenant) -> SafeString:
        """Return whether the tenant is linked, and the id of its organization."""
        badge = link_badge(tenant)
        return (
            badge
            if tenant.is_legacy
            else format_html("<div>{} {}</div>", badge, foreign(tenant.clerk_org_id))
        )

    @admin.display(description="status")
    def shown_status(self, tenant: Tenant) -> SafeString:
        """Return the status as a badge."""
        return status_badge(tenant)

    @admin.display(description="slug", empty_value="-")
    def shown_slug(self, tenant: Tenant) -> SafeString | None:
        """Return the slug."""
        return foreign(tenant.slug) if tenant.slug else None

    @admin.display(description="synced")
    def synced(self, tenant: Tenant) -> str:
        """Return the time of the last sync that changed the tenant or was aimed at it."""
        return ago(tenant.last_synced_at, "-" if tenant.is_legacy else "never")

    @admin.display(description="active members")
    def members(self, tenant: Any) -> int:
        """Return the number of active members."""
        return int(tenant.members_count)
