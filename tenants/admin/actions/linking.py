"""The admin page that links a legacy tenant to an organization in Clerk."""

from typing import Any

from django import forms
from django.apps import apps
from django.contrib import messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from clerk_integration.exceptions import ClerkError, InvalidClerkId
from clerk_integration.wire.ids import validate_org_id
from tenants.exceptions import TenantError
from tenants.models import Tenant
from tenants.services import TenantService

if apps.is_installed("unfold"):
    from unfold.widgets import UnfoldAdminTextInputWidget  # type: ignore[import-untyped]

    TextInput, TEMPLATE = UnfoldAdminTextInputWidget, "admin/tenants/tenant/link_unfold.html"
else:
    TextInput, TEMPLATE = AdminTextInputWidget, "admin/tenants/tenant/link.html"


class LinkForm(forms.Form):
    """Asks for the organization's id."""

    clerk_org_id = forms.CharField(
        label="Organization id",
        help_text="From Clerk's dashboard: org_ followed by letters and digits. A slug is not accepted.",
        widget=TextInput(attrs={"autofocus": True, "autocomplete": "off"}),
    )

    def clean_clerk_org_id(self) -> str:
        """Return the id; raise ValidationError for a value that is not an organization id."""
        try:
            return validate_org_id(self.cleaned_data["clerk_org_id"])
        except InvalidClerkId as error:
            raise ValidationError(str(error)) from error


def link_page(request: HttpRequest, tenant: Tenant, context: dict[str, Any]) -> HttpResponse:
    """Show the form; on POST link the tenant, or show the form again with the error.

    `context` holds the variables of the admin's base template. A refused link writes nothing.
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
    return TemplateResponse(request, TEMPLATE, {**context, "tenant": tenant, "form": form})
