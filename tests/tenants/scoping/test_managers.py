"""What scoped managers return, without a request."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.forms import modelform_factory
from django.test.utils import CaptureQueriesContext

from tenants.models import Tenant
from tenants.scoping import NoCurrentTenant, scopes_disabled, tenant_context
from tests.example_app.models import Customer, Invoice, InvoiceLine
from tests.tenants.scoping.conftest import invoice_of

pytestmark = pytest.mark.django_db

DEFINED_ONCE = Invoice.objects.unpaid().order_by("number")
LINES_DEFINED_ONCE = InvoiceLine.objects.all()


InvoiceForm = modelform_factory(Invoice, fields=("number", "customer"))


def numbers(queryset: Any) -> list[str]:
    return list(queryset.values_list("number", flat=True))


def test_objects_returns_the_current_tenant_s_rows(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme):
        assert numbers(Invoice.objects.all()) == ["A-1", "A-2"]
        assert InvoiceLine.objects.count() == 2
    with tenant_context(globex):
        assert numbers(Invoice.objects.all()) == ["G-1"]
        assert [line.text for line in InvoiceLine.objects.all()] == ["Line of Globex"]


def test_objects_without_a_tenant_raises_and_runs_no_statement(acme: Tenant) -> None:
    uses: list[Callable[[], Any]] = [
        lambda: list(Invoice.objects.filter(number="A-1")),
        Invoice.objects.count,
        lambda: Invoice.objects.update(is_paid=True),
        lambda: Invoice.objects.filter(number="A-1").delete(),
        lambda: Invoice.objects.create(number="A-3", customer_id=1),
        lambda: Invoice.objects.bulk_create([Invoice(number="A-3", customer_id=1)]),
        Invoice.objects.filter(number="A-1").delete,
        lambda: list(Invoice.unscoped.filter(pk__in=Invoice.objects.values("pk"))),
        lambda: list(Invoice.objects.filter(number="A-1") | Invoice.objects.filter(number="A-2")),
    ]
    for use in uses:
        with CaptureQueriesContext(connection) as captured, pytest.raises(NoCurrentTenant):
            use()
        assert [query for query in captured.captured_queries if "invoic" in query["sql"]] == []


def test_queryset_defined_once_follows_the_current_tenant(acme: Tenant, globex: Tenant) -> None:
    for tenant, expected in ((acme, ["A-1", "A-2"]), (globex, ["G-1"]), (acme, ["A-1", "A-2"])):
        with tenant_context(tenant):
            assert numbers(DEFINED_ONCE.all()) == expected
            assert LINES_DEFINED_ONCE.all().count() == len(expected)


def test_scopes_disabled_and_unscoped_return_all_rows(acme: Tenant, globex: Tenant) -> None:
    with scopes_disabled():
        assert numbers(Invoice.objects.all()) == ["A-1", "A-2", "G-1"]
        assert InvoiceLine.objects.exclude(text="x").count() == 3
    assert Invoice.unscoped.count() == 3
    with tenant_context(acme):
        assert Invoice.unscoped.count() == 3


def test_scoped_list_sends_the_statement_of_a_filter_by_hand(acme: Tenant) -> None:
    with tenant_context(acme):
        scoped = str(Invoice.objects.unpaid().query)

    by_hand = Invoice.unscoped.filter(tenant_id=acme.pk).filter(is_paid=False).order_by("number")
    assert scoped.replace(f"({acme.pk})", str(acme.pk)) == str(by_hand.query)


def test_reverse_manager_of_another_tenant_s_row_is_empty(acme: Tenant, globex: Tenant) -> None:
    foreign = invoice_of(globex)
    with tenant_context(acme):
        assert foreign.lines.count() == 0
        assert invoice_of(acme).lines.count() == 1
        assert [invoice.lines.all()[0].text for invoice in Invoice.objects.prefetch_related("lines")] == [
            "Line of Acme",
            "Line of Acme",
        ]


def test_form_offers_and_accepts_the_current_tenant_s_rows_only(acme: Tenant, globex: Tenant) -> None:
    with scopes_disabled():
        foreign = Customer.objects.get(tenant=globex)
    with tenant_context(acme):
        form = InvoiceForm({"number": "A-3", "customer": foreign.pk})

        field: Any = form.fields["customer"]
        assert [str(label) for _, label in field.choices] == ["---------", "Customer of Acme"]
        assert form.has_error("customer", "invalid_choice")
