"""Admin pages of the tenant that a member of staff has chosen; see `tests.example_app.middleware`."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants.scoping import current_tenant
from tests.example_app.models import Customer, Invoice, InvoiceLine


class TenantRowsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Pages that are closed until a tenant is chosen."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return current_tenant() is not None and super().has_module_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return current_tenant() is not None and super().has_view_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return current_tenant() is not None and super().has_change_permission(request, obj)


class LineInline(admin.TabularInline):  # type: ignore[type-arg]
    model = InvoiceLine
    extra = 0


@admin.register(Customer)
class CustomerAdmin(TenantRowsAdmin):
    search_fields = ("name",)


@admin.register(Invoice)
class InvoiceAdmin(TenantRowsAdmin):
    list_display = ("number", "customer", "is_paid")
    list_filter = ("is_paid", "customer")
    search_fields = ("number", "lines__text")
    inlines = (LineInline,)
    actions = ("mark_paid",)

    @admin.action(permissions=["change"])
    def mark_paid(self, request: HttpRequest, queryset: QuerySet[Invoice]) -> None:
        """Mark the selected invoices as paid."""
        messages.success(request, f"Paid: {queryset.update(is_paid=True)}")
