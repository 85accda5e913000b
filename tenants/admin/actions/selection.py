"""The tenants that an action is for: one tenant, selected rows of the list, or all rows of the list.

The URL of the confirmation page carries the selection, so that it survives every error and a reload:

| selected                  | URL                               |
| ------------------------- | --------------------------------- |
| one tenant                | `<id>/do/<action>/`               |
| rows of one page          | `do/<action>/?ids=1,2,3&list=...` |
| all rows, across pages    | `do/<action>/?all=1&list=...`     |

`list` is the query string of the list: its search, filters and order.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, QueryDict
from django.urls import reverse

from tenants.admin.actions.buttons import action_url
from tenants.models import Tenant
from tenants.querysets import MAX_ID_DIGITS

MAX_IDS = 200
"""The largest number of rows that Django's admin shows on one page ("Show all")."""

EXAMPLES = 10
"""The number of tenants that a confirmation page names."""


class TooManyRows(Exception):
    """The URL of a page cannot hold the ids of so many rows."""


@dataclass(frozen=True)
class Selection:
    """Tenants, the URL of the page that has them selected, and the URL to return to.

    `tenant` is the tenant if the page is that of one tenant.
    """

    tenants: QuerySet[Tenant]
    url: str
    back_url: str
    tenant: Tenant | None = None
    list_query: str = ""

    def narrowed(self, action: str, ids: list[int]) -> Selection:
        """Return the selection of these tenants only."""
        url = _selection_url(action, ids=",".join(map(str, ids)), list=self.list_query)
        tenants = Tenant.objects.filter(pk__in=ids)
        return Selection(tenants, url, self.back_url, None, self.list_query)


def of_tenant(tenant: Tenant, action: str) -> Selection:
    """Return the selection of one tenant, on its own page."""
    back_url = reverse("admin:tenants_tenant_change", args=[tenant.pk])
    return Selection(Tenant.objects.filter(pk=tenant.pk), action_url(tenant, action), back_url, tenant)


def url_of_list_action(request: HttpRequest, action: str) -> str:
    """Return the URL of the confirmation page for the rows that the list's form has sent."""
    list_query = request.GET.urlencode()
    if request.POST.get("select_across") == "1":
        return _selection_url(action, all="1", list=list_query)
    ids = request.POST.getlist("_selected_action")
    if len(ids) > MAX_IDS:
        raise TooManyRows
    return _selection_url(action, ids=",".join(ids), list=list_query)


def from_url(model_admin: ModelAdmin[Tenant], request: HttpRequest, action: str) -> Selection:
    """Return the selection that the page's URL carries; raise Http404 for a URL that carries none."""
    list_query = request.GET.get("list", "")
    if "all" in request.GET:
        tenants = Tenant.objects.filter(pk__in=_rows_of_list(model_admin, request, list_query).values("pk"))
    else:
        tenants = Tenant.objects.filter(pk__in=_ids(request.GET.get("ids", "")))
    back_url = reverse("admin:tenants_tenant_changelist")
    url = f"{request.path}?{request.GET.urlencode()}"
    return Selection(tenants, url, f"{back_url}?{list_query}" if list_query else back_url, None, list_query)


def _rows_of_list(model_admin: ModelAdmin[Tenant], request: HttpRequest, query: str) -> QuerySet[Any]:
    """Return all rows of the list, as the list itself selects them for this query string."""
    listed, parameters = copy(request), QueryDict(query, mutable=True)
    # The page may not exist any more, and all pages are selected.
    parameters.pop(PAGE_VAR, None)
    listed.GET = parameters  # type: ignore[assignment]  # the list only reads it
    try:
        changes = model_admin.get_changelist_instance(listed)
    except IncorrectLookupParameters as error:
        raise Http404("The list has no such search or filter.") from error
    rows: QuerySet[Any] = changes.get_queryset(listed).order_by()
    return rows


def _ids(text: str) -> list[int]:
    ids = text.split(",")
    if len(ids) > MAX_IDS or not all(map(_is_id, ids)):
        raise Http404("No tenants are selected.")
    return [int(one) for one in ids]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_ID_DIGITS


def _selection_url(action: str, **query: str) -> str:
    return f"{reverse('admin:tenants_tenant_do_selected', args=[action])}?{urlencode(query)}"
