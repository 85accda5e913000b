"""The page that renames a tenant, in Clerk first."""

from __future__ import annotations

from collections.abc import Callable

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect

from clerk_integration.exceptions import ClerkError
from clerk_integration.naming import MAX_NAME_LENGTH, MAX_SLUG_LENGTH, name_problem, slug_problem
from tenants import services
from tenants.admin.actions.failures import add_failure
from tenants.admin.pages import render_page
from tenants.exceptions import TenantError
from tenants.models import Tenant
from tenants.templatetags.tenants_admin import isolated

TEMPLATE = "admin/tenants/tenant/rename.html"

OUTCOME_UNKNOWN = "Clerk may have renamed the organization all the same; the next sync shows it here."


class RenameForm(forms.Form):
    """Asks for the name and the slug."""

    use_required_attribute = False

    name = forms.CharField(
        max_length=MAX_NAME_LENGTH,
        strip=False,
        show_hidden_initial=True,
        help_text=f"1 to {MAX_NAME_LENGTH} characters.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "dir": "auto"}),
    )
    slug = forms.CharField(
        max_length=MAX_SLUG_LENGTH,
        required=False,
        show_hidden_initial=True,
        help_text="Lower-case letters, digits and dashes. Old links that contain the slug stop working.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, data: QueryDict | None, *, tenant: Tenant) -> None:
        super().__init__(data, initial={"name": tenant.name, "slug": tenant.slug or ""})
        self._tenant = tenant

    def clean_name(self) -> str:
        """Return the name; raise ValidationError if it is new and Clerk would refuse it."""
        return self._checked("name", name_problem)

    def clean_slug(self) -> str:
        """Return the slug; raise ValidationError if it is new and Clerk would refuse it, or removed."""
        slug = self.cleaned_data["slug"]
        if not slug and self._tenant.slug:
            raise ValidationError("A slug can be changed, but not removed.")
        return self._checked("slug", slug_problem) if slug else ""

    @property
    def changes(self) -> dict[str, str]:
        """The values that the user has changed and that differ from the tenant's; call it on a valid form.

        The form holds the values that it has shown. So a new slug does not undo the new name that somebody
        else has given the tenant meanwhile.
        """
        values = self.cleaned_data
        return {name: values[name] for name in self.changed_data if values[name] != self.initial[name]}

    def _checked(self, field: str, problem_of: Callable[[str], str | None]) -> str:
        value: str = self.cleaned_data[field]
        problem = problem_of(value) if value != getattr(self._tenant, field) else None
        if problem is not None:
            raise ValidationError(f"The {field} {problem}. Nothing was changed.")
        return value


def rename_page(model_admin: ModelAdmin[Tenant], request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """Show the form; on POST rename the tenant, or show the form again with the error and the input."""
    form = RenameForm(request.POST or None, tenant=tenant)
    if form.is_valid():
        before = isolated(tenant)
        try:
            if form.changes:
                services.rename(tenant, **form.changes, acting_user=request.user)
        except (TenantError, ClerkError) as error:
            add_failure(form, error, outcome_unknown=OUTCOME_UNKNOWN)
        else:
            _report(request, tenant, before, form.changes)
            return redirect("admin:tenants_tenant_change", tenant.pk)
    return render_page(
        model_admin, request, TEMPLATE, title="Rename", original=tenant, tenant=tenant, form=form
    )


def _report(request: HttpRequest, tenant: Tenant, before: str, changes: dict[str, str]) -> None:
    if not changes:
        messages.info(request, f"{before} (tenant {tenant.pk}) has this name and slug already.")
        return
    where = "here" if tenant.is_legacy else "in Clerk and here"
    slug = f", slug {isolated(tenant.slug)}" if tenant.slug else ""
    messages.success(request, f"{before} (tenant {tenant.pk}) is now {isolated(tenant)}{slug}, {where}.")
