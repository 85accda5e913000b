"""The admin pages of tenants: the list, the page of one tenant, and the page that renames it."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants.admin.actions import TenantActions
from tenants.admin.dashboard import DashboardPage
from tenants.admin.files import TenantFiles
from tenants.admin.filters import DeletedFilter, DriftFilter, LinkedFilter, SyncedFilter
from tenants.admin.pages import StyledAdmin
from tenants.admin.renaming import rename_page
from tenants.admin.tenant_page import tenant_page
from tenants.models import Membership, Tenant
from tenants.templatetags.tenants_admin import ago, foreign, link_badge, status_badge


@admin.register(Tenant)
class TenantAdmin(TenantActions, DashboardPage, TenantFiles, StyledAdmin):
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

    def get_urls(self) -> list[URLPattern]:
        """Add the page that renames a tenant. It calls Clerk, so ATOMIC_REQUESTS must not wrap it."""
        rename = transaction.non_atomic_requests(self.admin_site.admin_view(self.rename_view))
        return [path("<int:tenant_id>/rename/", rename, name="tenants_tenant_rename"), *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the page of the tenant; refuse a POST."""
        if request.method == "POST" or not self.has_view_permission(request):
            raise PermissionDenied
        tenant = self.get_object(request, unquote(object_id))
        if tenant is None:
            messages.warning(request, f"There is no tenant {object_id}. It may have been deleted.")
            return redirect("admin:tenants_tenant_changelist")
        return tenant_page(self, request, tenant)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the history of the tenant: Django's own log has no entries of it."""
        changes = reverse("admin:tenants_tenanthistory_changelist")
        return redirect(f"{changes}?{urlencode({'q': unquote(object_id)})}")

    def rename_view(self, request: HttpRequest, tenant_id: int) -> HttpResponse:
        """Show the page that renames the tenant, or rename it."""
        if not request.user.has_perm("tenants.change_tenant"):
            raise PermissionDenied
        return rename_page(self, request, get_object_or_404(Tenant, pk=tenant_id))

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
