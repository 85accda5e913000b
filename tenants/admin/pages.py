"""The common look of the admin pages: a base class for admins of models, and a function for other pages."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.admin import ModelAdmin, ShowFacets
from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from clerk_integration.admin.pagination import EstimatingPaginator
from clerk_integration.admin.readonly import ReadOnlyAdmin


class StyledAdmin(ReadOnlyAdmin):
    """Read-only pages of a table that may be large: no full count, and the stylesheet of tenants.

    No column is sortable: PostgreSQL would sort the whole table. The newest rows come first.
    """

    paginator = EstimatingPaginator
    show_full_result_count = False
    # `?_facets=True` would count every choice of every filter.
    show_facets = ShowFacets.NEVER
    sortable_by = ()
    ordering = ("-id",)

    class Media:
        css: ClassVar = {"all": ["tenants/admin.css"]}
        js = ("tenants/admin.js",)


def render_page(
    model_admin: ModelAdmin[Any],
    request: HttpRequest,
    template: str,
    *,
    title: str,
    original: Model | None = None,
    status: int = 200,
    **context: Any,
) -> TemplateResponse:
    """Return the page; `template` extends `admin/tenants/base_page.html`.

    The breadcrumbs lead to the list of `model_admin`, and to the page of `original` if there is one.
    """
    opts = model_admin.opts
    site = model_admin.admin_site.name
    names = f"admin:{opts.app_label}_{opts.model_name}"
    common = {
        **model_admin.admin_site.each_context(request),
        "opts": opts,
        "title": title,
        "original": original,
        "changelist_url": reverse(f"{names}_changelist", current_app=site),
        "original_url": original and reverse(f"{names}_change", args=[original.pk], current_app=site),
    }
    return TemplateResponse(request, template, {**common, **context}, status=status)
