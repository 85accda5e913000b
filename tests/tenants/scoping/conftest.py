"""Two tenants with the same invoices, each in its own numbers."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from tenants.models import Tenant
from tenants.scoping import scopes_disabled, tenant_context
from tests.example_app.models import Customer, Invoice, InvoiceLine


@pytest.fixture
def with_invoices() -> Callable[..., Tenant]:
    """Return a function that gives a tenant a customer and invoices with one line each."""

    def fill(tenant: Tenant, *numbers: str) -> Tenant:
        with tenant_context(tenant):
            customer = Customer.objects.create(name=f"Customer of {tenant}")
            for number in numbers:
                invoice = Invoice.objects.create(number=number, customer=customer)
                InvoiceLine.objects.create(invoice=invoice, text=f"Line of {tenant}", amount=Decimal(10))
        return tenant

    return fill


@pytest.fixture
def acme(db: None, with_invoices: Callable[..., Tenant]) -> Tenant:
    return with_invoices(Tenant.objects.create(name="Acme"), "A-1", "A-2")


@pytest.fixture
def globex(db: None, with_invoices: Callable[..., Tenant]) -> Tenant:
    return with_invoices(Tenant.objects.create(name="Globex"), "G-1")


def invoice_of(tenant: Tenant) -> Invoice:
    """Return the first invoice of a tenant."""
    with scopes_disabled():
        found: Invoice = Invoice.objects.filter(tenant=tenant).first()
    return found
