"""The mixin that adds the actions to the admin pages of tenants."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path

from tenants.admin.actions.buttons import COMPARE_PERMISSION, LINK_PERMISSION, action_url, may
from tenants.admin.actions.compare import compare_page
from tenants.admin.actions.confirmation import confirmation_page
from tenants.admin.actions.link import link_page
from tenants.admin.actions.selection import TooManyRows, from_url, of_tenant, url_of_list_action
from tenants.admin.pages import render_page
from tenants.batches.steps import STEPS
from tenants.models import Tenant

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    Base = ModelAdmin[Tenant]
else:
    Base = object

PERMISSIONS = {
    **{key: step.permission for key, step in STEPS.items()},
    "link": LINK_PERMISSION,
    "compare": COMPARE_PERMISSION,
}

LIST_LABELS = {**{key: step.label for key, step in STEPS.items()}, "link": "Link to organization"}


class TenantActions(Base):
    """The list actions of tenants, and the pages of the actions.

    Each page is a view of its own, outside the transaction of ATOMIC_REQUESTS, because it calls Clerk.
    """

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of the actions."""
        return [
            path("<int:tenant_id>/compare/", self._view(self.compare_view), name="tenants_tenant_compare"),
            path("<int:tenant_id>/do/<slug:action>/", self._view(self.do_view), name="tenants_tenant_do"),
            path("do/<slug:action>/", self._view(self.do_selected_view), name="tenants_tenant_do_selected"),
            *super().get_urls(),
        ]

    def _view(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        return transaction.non_atomic_requests(self.admin_site.admin_view(view))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Add the list actions that the user may use; each leads to its confirmation page."""
        actions = super().get_actions(request)
        if IS_POPUP_VAR in request.GET:
            return actions
        allowed = {key: label for key, label in LIST_LABELS.items() if may(request, PERMISSIONS[key])}
        return actions | {key: (_leave_list(key), key, label) for key, label in allowed.items()}

    def compare_view(self, request: HttpRequest, tenant_id: int) -> HttpResponse:
        """Show the comparison of one tenant with Clerk."""
        self._require(request, "compare")
        return compare_page(self, request, get_object_or_404(Tenant, pk=tenant_id))

    def do_view(self, request: HttpRequest, tenant_id: int, action: str) -> HttpResponse:
        """Show the page of an action for one tenant; on POST carry the action out."""
        self._require(request, action)
        tenant = get_object_or_404(Tenant, pk=tenant_id)
        if action == "link":
            return link_page(self, request, tenant)
        return confirmation_page(self, request, self._step_key(action), of_tenant(tenant, action))

    def do_selected_view(self, request: HttpRequest, action: str) -> HttpResponse:
        """Show the page of an action for the selected tenants; on POST carry the action out."""
        self._require(request, action)
        selection = from_url(self, request, action)
        if action == "link":
            return self._choose_view(request, selection.tenants)
        return confirmation_page(self, request, self._step_key(action), selection)

    def _require(self, request: HttpRequest, action: str) -> None:
        """Raise Http404 for an unknown action, and PermissionDenied if the user may not use it."""
        if action not in PERMISSIONS:
            raise Http404(f"There is no action {action}.")
        if not (self.has_view_permission(request) and may(request, PERMISSIONS[action])):
            raise PermissionDenied

    def _step_key(self, action: str) -> str:
        if action not in STEPS:
            raise Http404(f"There is no action {action}.")
        return action

    def _choose_view(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> HttpResponse:
        """Show the legacy tenants of a selection, to link them one at a time."""
        legacy = tenants.filter(clerk_org_id=None).order_by("pk")
        shown = [(tenant, action_url(tenant, "link")) for tenant in legacy[:MAX_CHOICES]]
        if len(shown) == 1:
            return redirect(shown[0][1])
        return render_page(
            self,
            request,
            "admin/tenants/actions/choose.html",
            title="Choose the tenant to link",
            shown=shown,
            number=legacy.count(),
            linked=tenants.exclude(clerk_org_id=None).count(),
        )


MAX_CHOICES = 50


def _leave_list(key: str) -> Callable[..., HttpResponse | None]:
    """Return the list action that redirects to the confirmation page, which the selection goes with."""

    def leave(model_admin: Any, request: HttpRequest, queryset: QuerySet[Tenant]) -> HttpResponse | None:
        try:
            return HttpResponseRedirect(url_of_list_action(request, key))
        except TooManyRows:
            messages.error(request, "Too many rows were selected one by one. Select all rows of the list.")
            return None

    return leave
