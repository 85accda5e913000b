"""The page on which staff name the organization that a legacy tenant is linked to."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextInputWidget  # type: ignore[import-untyped]

from clerk_integration.exceptions import ClerkError, InvalidClerkId
from clerk_integration.wire.ids import validate_org_id
from tenants.exceptions import TenantError
from tenants.models import Tenant
from tenants.services import TenantService


class LinkForm(forms.Form):
    """Asks for the organization's id."""

    clerk_org_id = forms.CharField(
        label="Organization id",
        help_text="As Clerk's dashboard shows it: org_ and letters and digits. A slug will not do.",
        widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True, "autocomplete": "off"}),
    )

    def clean_clerk_org_id(self) -> str:
        """Return the id; refuse what no organization can have, before Clerk is asked."""
        try:
            return validate_org_id(self.cleaned_data["clerk_org_id"])
        except InvalidClerkId as error:
            raise ValidationError(str(error)) from error


def link_page(request: HttpRequest, tenant: Tenant, context: dict[str, Any]) -> HttpResponse:
    """Show the form; on POST link the tenant, or show the form again with what is wrong.

    `context` is what the admin's templates need. Nothing is written unless the link succeeds.
    """
    if tenant.clerk_org_id is not None:
        messages.error(request, f"{tenant} (tenant {tenant.pk}) is linked to {tenant.clerk_org_id} already.")
        return redirect("admin:tenants_tenant_changelist")
    form = LinkForm(request.POST or None)
    if form.is_valid() and _link(request, tenant, form):
        return redirect("admin:tenants_tenant_change", tenant.pk)
    return TemplateResponse(
        request, "admin/tenants/tenant/link.html", {**context, "tenant": tenant, "form": form}
    )


def _link(request: HttpRequest, tenant: Tenant, form: LinkForm) -> bool:
    try:
        linked = TenantService.link_to_clerk_org(
            tenant, form.cleaned_data["clerk_org_id"], acting_user=request.user
        )
    except (TenantError, ClerkError) as error:
        form.add_error(None, str(error))
        return False
    messages.success(request, f"{linked} (tenant {linked.pk}) is linked to {linked.clerk_org_id}.")
    return True
