"""The page that links a legacy tenant: search in Clerk, preview of both sides, confirmation.

| request                  | shows                                                     |
| ------------------------ | --------------------------------------------------------- |
| GET                      | the search                                                |
| GET `?q=acme`            | the organizations that Clerk finds by name, slug or id    |
| GET `?organization=org_` | the preview of the link to this organization              |
| POST `clerk_org_id`      | the tenant's page; after a failure, this page with reason |
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clerk_integration.conf import clerk_settings
from clerk_integration.exceptions import ClerkError, InvalidClerkId
from clerk_integration.organizations import search_clerk_orgs
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.ids import validate_org_id
from tenants.admin.actions.buttons import action_url
from tenants.admin.actions.failures import add_failure, explain
from tenants.admin.actions.link_preview import preview_of
from tenants.admin.actions.wording import named
from tenants.admin.pages import render_page
from tenants.creation.instances import require_own_instance
from tenants.exceptions import TenantError
from tenants.models import Tenant
from tenants.services import TenantService

TEMPLATE = "admin/tenants/actions/link.html"


class LinkForm(forms.Form):
    """Confirms the link to one organization."""

    clerk_org_id = forms.CharField()

    def clean_clerk_org_id(self) -> str:
        """Return the id; raise ValidationError for a value that is not an organization id."""
        try:
            return validate_org_id(self.cleaned_data["clerk_org_id"])
        except InvalidClerkId as error:
            raise ValidationError(str(error)) from error


def link_page(model_admin: ModelAdmin[Tenant], request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """Show search and preview; on POST link the tenant. A refused link writes nothing."""
    if tenant.clerk_org_id is not None:
        messages.error(
            request,
            named(
                tenant, f"is already linked to {tenant.clerk_org_id}. Nothing was changed. Unlink it first."
            ),
        )
        return redirect("admin:tenants_tenant_change", tenant.pk)
    if request.method == "POST":
        return _link(model_admin, request, tenant)
    organization = request.GET.get("organization", "").strip()
    search = request.GET.get("q", "").strip()
    if organization:
        return _preview(model_admin, request, tenant, organization)
    return _page(model_admin, request, tenant, search=search, **(_found(search) if search else {}))


def _link(model_admin: ModelAdmin[Tenant], request: HttpRequest, tenant: Tenant) -> HttpResponse:
    form = LinkForm(request.POST)
    if form.is_valid():
        try:
            linked = TenantService.link_to_clerk_org(
                tenant, form.cleaned_data["clerk_org_id"], acting_user=request.user
            )
        except (TenantError, ClerkError) as error:
            add_failure(form, error)
        else:
            messages.success(
                request,
                named(linked, f"is linked to {linked.clerk_org_id}. Unlink undoes this."),
            )
            return redirect("admin:tenants_tenant_change", linked.pk)
    return _page(model_admin, request, tenant, form=form, organization=request.POST.get("clerk_org_id", ""))


def _found(search: str) -> dict[str, Any]:
    """Return the organizations that Clerk finds, each with the tenant that it has here, or the error."""
    try:
        with clerk_deadline(clerk_settings.timeout_seconds):
            require_own_instance()
            page = search_clerk_orgs(search)
    except (TenantError, ClerkError) as error:
        return {"error": explain(error)}
    ids = [organization.id for organization in page.records]
    holders = {tenant.clerk_org_id: tenant for tenant in Tenant.objects.filter(clerk_org_id__in=ids)}
    found = [(organization, holders.get(organization.id)) for organization in page.records]
    return {"found": found, "total": page.total, "more": page.total - len(found)}


def _preview(
    model_admin: ModelAdmin[Tenant], request: HttpRequest, tenant: Tenant, organization: str
) -> HttpResponse:
    context: dict[str, Any] = {"organization": organization}
    try:
        context["preview"] = preview_of(tenant, organization)
        context["form"] = LinkForm(initial={"clerk_org_id": organization})
    except (TenantError, ClerkError) as error:
        context["error"] = explain(error)
    return _page(model_admin, request, tenant, **context)


def _page(
    model_admin: ModelAdmin[Tenant], request: HttpRequest, tenant: Tenant, **context: Any
) -> HttpResponse:
    return render_page(
        model_admin,
        request,
        TEMPLATE,
        title=f"Link “{tenant}” to an organization in Clerk",
        original=tenant,
        tenant=tenant,
        url=action_url(tenant, "link"),
        **context,
    )
