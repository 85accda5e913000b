"""The admin pages of tenants, with their actions."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path

from clerk_integration.admin.readonly import ReadOnlyAdmin
from tenants.admin.batch import report, run_batch
from tenants.admin.linking import link_page
from tenants.backfill import create_organization_for
from tenants.exceptions import OrganizationDeleted
from tenants.models import Membership, Tenant
from tenants.services import TenantService


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
class TenantAdmin(ReadOnlyAdmin):
    """Lists and shows tenants, read-only, with actions that call Clerk."""

    list_display = ("name", "clerk_org_id", "slug", "status", "last_synced_at", "members")
    list_filter = ("status", LinkedFilter)
    search_fields = ("name", "slug", "clerk_org_id")
    ordering = ("name", "id")
    actions = ("sync_from_clerk", "create_in_clerk", "link_to_organization")
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

    @admin.action(description="Sync from Clerk", permissions=["operate"])
    def sync_from_clerk(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        """Fetch the organization and members of each selected tenant."""
        report(request, run_batch(queryset, refresh), done="synced from Clerk")

    @admin.action(description="Create in Clerk (legacy tenants)", permissions=["operate"])
    def create_in_clerk(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        """Create an organization in Clerk for each selected legacy tenant."""

        def create(tenant: Tenant) -> Tenant:
            return create_organization_for(tenant, acting_user=request.user)

        report(request, run_batch(queryset, create), done="created in Clerk")

    @admin.action(description="Link to organization (one legacy tenant)", permissions=["operate"])
    def link_to_organization(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> HttpResponse | None:
        """Redirect to the page that links the selected tenant."""
        tenants = queryset[:2]
        if len(tenants) != 1:
            messages.error(request, "Select exactly one tenant to link. Nothing was changed.")
            return None
        return redirect("admin:tenants_tenant_link", tenants[0].pk)

    def get_urls(self) -> list[URLPattern]:
        """Add the page that links a tenant."""
        page = transaction.non_atomic_requests(self.admin_site.admin_view(self.link_view))
        return [path("<int:tenant_id>/link/", page, name="tenants_tenant_link"), *super().get_urls()]

    def link_view(self, request: HttpRequest, tenant_id: int) -> HttpResponse:
        """Show the page that links a tenant. The admin's own change view would open a transaction."""
        if not self.has_operate_permission(request):
            raise PermissionDenied
        tenant = get_object_or_404(self.get_queryset(request), pk=tenant_id)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": tenant,
            "title": f"Link {tenant} to an organization in Clerk",
        }
        return link_page(request, tenant, context)


def refresh(tenant: Tenant) -> None:
    """Sync one tenant; raise OrganizationDeleted if Clerk has deleted its organization."""
    if TenantService.refresh_from_clerk(tenant).deleted_at is not None:
        raise OrganizationDeleted(
            "Its organization was deleted in Clerk. The tenant is now deactivated; its rows are kept."
        )
