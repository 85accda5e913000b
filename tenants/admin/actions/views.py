"""The mixin that adds the actions to the admin pages of tenants."""

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path

from tenants.admin.actions.buttons import action_url, may
from tenants.admin.actions.linking import link_page
from tenants.admin.actions.reports import carry_out_step
from tenants.models import Tenant

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    Base = ModelAdmin[Tenant]
else:
    Base = object


class TenantActions(Base):
    """The list actions of tenants, and the pages `<id>/do/<action>/` of one tenant."""

    actions = ("sync_from_clerk", "create_in_clerk", "link_to_organization")

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of the actions. They call Clerk, so ATOMIC_REQUESTS must not wrap them."""
        page = transaction.non_atomic_requests(self.admin_site.admin_view(self.action_view))
        one = path("<int:tenant_id>/do/<slug:action>/", page, name="tenants_tenant_do")
        return [one, *super().get_urls()]

    def action_view(self, request: HttpRequest, tenant_id: int, action: str) -> HttpResponse:
        """Show the page of an action for one tenant, or carry the action out."""
        if not may(request, "change_tenant"):
            raise PermissionDenied
        if action != "link":
            raise Http404(f"There is no action {action}.")
        tenant = get_object_or_404(self.get_queryset(request), pk=tenant_id)
        return link_page(self, request, tenant)

    @admin.action(description="Sync from Clerk", permissions=["operate"])
    def sync_from_clerk(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        """Fetch the organization and members of each selected tenant."""
        carry_out_step(request, "sync", queryset)

    @admin.action(description="Create in Clerk (legacy tenants)", permissions=["operate"])
    def create_in_clerk(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        """Create an organization in Clerk for each selected legacy tenant."""
        carry_out_step(request, "create_in_clerk", queryset)

    @admin.action(description="Link to organization (one legacy tenant)", permissions=["operate"])
    def link_to_organization(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> HttpResponse | None:
        """Redirect to the page that links the selected tenant."""
        tenants = queryset[:2]
        if len(tenants) != 1:
            messages.error(request, "Select exactly one tenant to link. Nothing was changed.")
            return None
        return redirect(action_url(tenants[0], "link"))
