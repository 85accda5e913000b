"""The tenant in which a member of staff uses the admin: chosen by hand, and kept in the session."""

from collections.abc import Callable

from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from tenants.models import Tenant
from tenants.scoping import tenant_context

CHOSEN = "admin_tenant_id"

GetResponse = Callable[[HttpRequest], HttpResponse]


def staff_tenant(get_response: GetResponse) -> GetResponse:
    """Let admin pages run for the tenant that the session names."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if not (request.path.startswith("/admin/") and request.user.is_staff and CHOSEN in request.session):
            return get_response(request)
        with tenant_context(get_object_or_404(Tenant, pk=request.session[CHOSEN])):
            return get_response(request)

    return middleware


@permission_required("tenants.view_tenant", raise_exception=True)
def choose_tenant(request: HttpRequest, tenant_id: int) -> HttpResponse:
    """Choose a tenant for the admin."""
    request.session[CHOSEN] = get_object_or_404(Tenant, pk=tenant_id).pk
    return redirect("admin:invoicing_invoice_changelist")
