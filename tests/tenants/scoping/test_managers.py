"""Scoped managers and writes, without a request."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.forms import modelform_factory
from django.test.utils import CaptureQueriesContext

from tenants.models import Tenant
from tenants.scoping import CrossTenantWrite, NoCurrentTenant, scopes_disabled, tenant_context
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


def test_create_and_bulk_create_set_the_tenant(acme: Tenant) -> None:
    with tenant_context(acme):
        customer = Customer.objects.get()
        Invoice.objects.bulk_create([Invoice(number="A-3", customer=customer)])
        created, _ = Invoice.objects.get_or_create(number="A-4", defaults={"customer": customer})
        saved = Invoice(number="A-5", customer=customer)
        saved.save()

    assert set(Invoice.unscoped.values_list("tenant", flat=True)) == {acme.pk}
    assert created.tenant == saved.tenant == acme


@pytest.mark.parametrize(
    "write",
    [
        lambda own, foreign: foreign.save(),
        lambda own, foreign: foreign.delete(),
        lambda own, foreign: moved(own, foreign.tenant).save(),
        lambda own, foreign: moved(foreign, own.tenant).save(),
        lambda own, foreign: moved(foreign, own.tenant).save(update_fields=["tenant"]),
        lambda own, foreign: Invoice(pk=foreign.pk, number="X", customer=own.customer).save(),
        lambda own, foreign: Invoice.objects.create(number="X", customer=foreign.customer),
        lambda own, foreign: Invoice.objects.create(number="X", customer=own.customer, tenant=foreign.tenant),
        lambda own, foreign: Invoice.objects.bulk_create([Invoice(number="X", customer=foreign.customer)]),
        lambda own, foreign: Invoice.objects.bulk_update([foreign], ["number"]),
        lambda own, foreign: Invoice.objects.update(tenant=foreign.tenant),
        lambda own, foreign: Invoice.objects.update(tenant_id=foreign.tenant_id),
        lambda own, foreign: Invoice.objects.update(customer=foreign.customer),
        lambda own, foreign: InvoiceLine.objects.create(invoice=foreign, text="X", amount=1),
        lambda own, foreign: InvoiceLine.objects.create(invoice_id=foreign.pk, text="X", amount=1),
        lambda own, foreign: foreign.lines.create(text="X", amount=1),
        lambda own, foreign: InvoiceLine(pk=line_of(foreign).pk, invoice=own, text="X", amount=1).save(),
        lambda own, foreign: line_of(foreign).save(),
        lambda own, foreign: InvoiceLine.objects.update(invoice=foreign.pk),
        lambda own, foreign: InvoiceLine.objects.bulk_create([InvoiceLine(invoice=foreign, amount=1)]),
    ],
)
def test_write_into_another_tenant_raises_and_changes_nothing(
    acme: Tenant, globex: Tenant, write: Callable[[Invoice, Invoice], Any]
) -> None:
    own, foreign = invoice_of(acme), invoice_of(globex)
    before = snapshot()

    with tenant_context(acme), pytest.raises(CrossTenantWrite, match="tenant"), transaction.atomic():
        write(own, foreign)

    assert snapshot() == before


def moved(invoice: Invoice, tenant: Tenant) -> Invoice:
    invoice.tenant = tenant
    return invoice


def line_of(invoice: Invoice) -> InvoiceLine:
    line: InvoiceLine = InvoiceLine.unscoped.filter(invoice=invoice).get()
    return line


def snapshot() -> list[tuple[Any, ...]]:
    rows = [model.unscoped.order_by("pk").values_list() for model in (Customer, Invoice, InvoiceLine)]
    return [tuple(row) for table in rows for row in table]


def test_bulk_writes_by_scoped_querysets_leave_other_tenants_alone(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme):
        assert Invoice.objects.update(is_paid=True) == 2
        assert InvoiceLine.objects.all().delete() == (2, {"invoicing.InvoiceLine": 2})

    assert Invoice.unscoped.filter(is_paid=True, tenant=acme).count() == 2
    assert InvoiceLine.unscoped.get().text == "Line of Globex"


def test_saves_inside_the_tenant_take_the_statements_of_a_plain_model(acme: Tenant) -> None:
    with tenant_context(acme):
        invoice = Invoice.objects.first()
        with CaptureQueriesContext(connection) as saving:
            invoice.save()
        with CaptureQueriesContext(connection) as creating:
            InvoiceLine.objects.create(invoice=invoice, text="New", amount=1)

    assert (len(saving), len(creating)) == (1, 1)


def test_update_of_a_deleted_row_fails_as_for_a_plain_model(acme: Tenant) -> None:
    with tenant_context(acme):
        invoice = Invoice.objects.first()
        Invoice.objects.filter(pk=invoice.pk).delete()
        with pytest.raises(DatabaseError, match="did not affect any rows"), transaction.atomic():
            invoice.save(update_fields=["number"])


def test_scopes_disabled_saves_into_the_tenant_that_is_given(acme: Tenant, globex: Tenant) -> None:
    own, foreign = invoice_of(acme), invoice_of(globex)
    with scopes_disabled():
        own.number, foreign.number = "A-9", "G-9"
        own.save()
        Invoice.objects.bulk_update([foreign], ["number"])
        Invoice.objects.create(number="G-2", customer=foreign.customer, tenant=globex)

    assert numbers(Invoice.unscoped.order_by("number")) == ["A-2", "A-9", "G-2", "G-9"]
