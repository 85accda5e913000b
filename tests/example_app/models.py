"""Customers and invoices belong to a tenant; lines belong to the tenant of their invoice."""

from typing import Any, ClassVar

from django.db import models

from tenants.scoping import TenantOwnedModel, TenantScopedManager, TenantScopedQuerySet


class InvoiceQuerySet(TenantScopedQuerySet["Invoice"]):
    def unpaid(self) -> models.QuerySet["Invoice"]:
        return self.filter(is_paid=False)


class Customer(TenantOwnedModel):
    name = models.CharField(max_length=100)
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    def __str__(self) -> str:
        return self.name


class Invoice(TenantOwnedModel):
    number = models.CharField(max_length=20)
    customer = models.ForeignKey(Customer, on_delete=models.RESTRICT, related_name="+")
    is_paid = models.BooleanField(default=False)

    objects: ClassVar[Any] = InvoiceQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "number"], name="invoice_number")]

    def __str__(self) -> str:
        return self.number


class InvoiceLine(models.Model):
    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="lines")
    text = models.CharField(max_length=200)
    amount = models.DecimalField(max_digits=10, decimal_places=2)

    objects = TenantScopedManager("invoice__tenant")
    unscoped = models.Manager()

    def __str__(self) -> str:
        return self.text
