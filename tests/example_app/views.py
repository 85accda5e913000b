"""Plain Django views, sync and async."""

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from tenants.scoping import org_role_required, tenant_required
from tests.example_app.models import Invoice
from tests.example_app.tasks import close_invoices


@tenant_required
def invoice_numbers(request: HttpRequest) -> JsonResponse:
    """List the numbers of the tenant's invoices."""
    numbers = list(Invoice.objects.values_list("number", flat=True))
    return JsonResponse({"tenant": request.tenant.name, "numbers": numbers})  # type: ignore[attr-defined]


@tenant_required
async def unpaid_numbers(request: HttpRequest) -> JsonResponse:
    """List the numbers of the tenant's unpaid invoices, in an async view."""
    numbers = [invoice.number async for invoice in Invoice.objects.unpaid()]
    return JsonResponse({"tenant": request.tenant.name, "numbers": numbers})  # type: ignore[attr-defined]


@tenant_required
def exported_numbers(request: HttpRequest) -> StreamingHttpResponse:
    """Stream the numbers of the tenant's invoices; the rows are read after the view has returned."""
    return StreamingHttpResponse(f"{number}\n" for number in Invoice.objects.values_list("number", flat=True))


@csrf_exempt
@org_role_required("admin")
def close(request: HttpRequest) -> HttpResponse:
    """Let a Celery worker mark invoices as paid."""
    close_invoices.delay(request.GET["prefix"])
    return HttpResponse(status=202)


@tenant_required
def raw_total(request: HttpRequest) -> JsonResponse:
    """Add up all lines that PostgreSQL shows to the tenant: row-level security is the only filter."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), coalesce(sum(amount), 0) FROM invoicing_invoiceline")
        lines, total = cursor.fetchone()
    return JsonResponse({"lines": lines, "total": total})
