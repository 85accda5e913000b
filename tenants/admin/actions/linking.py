"""The admin page that links a legacy tenant to an organization in Clerk."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clerk_integration.exceptions import ClerkError, InvalidClerkId
from clerk_integration.wire.ids import validate_org_id
from tenants.admin.pages import render_page
from tenants.exceptions import TenantError
from tenants.models import Tenant
from tenants.services import TenantService

TEMPLATE = "admin/tenants/tenant/link.html"


class LinkForm(forms.Form):
    """Asks for the organization's id."""

    clerk_org_id = forms.CharField(
        label="Organization id",
        help_text="From Clerk's dashboard: org_ followed by letters and digits. A slug is not accepted.",
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off"}),
    )

    def clean_clerk_org_id(self) -> str:
        """Return the id; raise ValidationError for a value that is not an organization id."""
        try:
            return validate_org_id(self.cleaned_data["clerk_org_id"])
        except InvalidClerkId as error:
            raise ValidationError(str(error)) from error


def link_page(model_admin: ModelAdmin[Tenant], request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """Show the form; on POST link the tenant, or show the form again with the error.

    A refused link writes nothing.
    """
    if tenant.clerk_org_id is not None:
        messages.error(
            request,
            f"{tenant} (tenant {tenant.pk}) is already linked to {tenant.clerk_org_id}. Nothing was changed.",
        )
        return redirect("admin:tenants_tenant_changelist")
    form = LinkForm(request.POST or None)
    if form.is_valid():
        organization = form.cleaned_data["clerk_org_id"]
        try:
            linked = TenantService.link_to_clerk_org(tenant, organization, acting_user=request.user)
        except (TenantError, ClerkError) as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{linked} (tenant {linked.pk}) is linked to {linked.clerk_org_id}.")
            return redirect("admin:tenants_tenant_change", linked.pk)
    title = f"Link {tenant} to an organization in Clerk"
    return render_page(model_admin, request, TEMPLATE, title=title, original=tenant, tenant=tenant, form=form)
