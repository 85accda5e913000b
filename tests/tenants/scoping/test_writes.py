"""Writes inside and out of the current tenant, without a request."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Value
from django.test.utils import CaptureQueriesContext

from tenants.models import Tenant
from tenants.scoping import CrossTenantWrite, NoCurrentTenant, references, scopes_disabled, tenant_context
from tests.example_app.models import Customer, Invoice, InvoiceLine
from tests.tenants.scoping.conftest import invoice_of

pytestmark = pytest.mark.django_db


def numbers(queryset: Any) -> list[str]:
    return list(queryset.values_list("number", flat=True))


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
        lambda own, foreign: own.lines.add(line_of(foreign)),
        lambda own, foreign: own.lines.add(*own.lines.all(), line_of(foreign), bulk=False),
        lambda own, foreign: own.lines.set([*own.lines.all(), line_of(foreign)]),
        lambda own, foreign: foreign.lines.add(line_of(own)),
        lambda own, foreign: foreign.lines.set(own.lines.all()),
        lambda own, foreign: InvoiceLine.objects.update(invoice=foreign.pk),
        lambda own, foreign: InvoiceLine.objects.bulk_create([InvoiceLine(invoice=foreign, amount=1)]),
        lambda own, foreign: InvoiceLine.objects.create(text="X", amount=1),
        lambda own, foreign: InvoiceLine.objects.create(invoice_id=Value(foreign.pk), text="X", amount=1),
        lambda own, foreign: Invoice.objects.update(tenant=Value(foreign.tenant_id)),
        lambda own, foreign: Invoice(pk=foreign.pk).delete(),
        lambda own, foreign: moved(foreign, own.tenant).delete(),
        lambda own, foreign: Invoice(pk=str(foreign.pk)).delete(),
        lambda own, foreign: InvoiceLine(pk=str(line_of(foreign).pk), invoice=own, text="X", amount=1).save(),
        lambda own, foreign: line_of(foreign).delete(),
        lambda own, foreign: InvoiceLine(pk=line_of(foreign).pk, invoice=own).delete(),
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


def statements_of(write: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        write()
    return len(captured)


def test_saves_inside_the_tenant_with_objects_in_memory_take_the_statements_of_a_plain_model(
    acme: Tenant,
) -> None:
    with tenant_context(acme):
        invoice = Invoice.objects.select_related("customer").first()

        assert statements_of(invoice.save) == 1
        assert statements_of(lambda: InvoiceLine.objects.create(invoice=invoice, text="New", amount=1)) == 1


def test_saves_with_ids_take_one_more_statement_for_each_foreign_key_that_is_written(acme: Tenant) -> None:
    with tenant_context(acme):
        invoice = Invoice.objects.first()

        assert statements_of(lambda: invoice.save(update_fields=["number"])) == 1
        assert statements_of(lambda: invoice.save(update_fields=["customer"])) == 2
        assert statements_of(invoice.save) == 2
        assert statements_of(Invoice.objects.only("number").first().save) == 2  # with the one that loads it
        assert (
            statements_of(lambda: InvoiceLine.objects.create(invoice_id=invoice.pk, text="New", amount=1))
            == 2
        )


@pytest.mark.parametrize("count", [1, 3, 9])
def test_bulk_writes_with_ids_take_one_more_statement_for_all_rows(acme: Tenant, count: int) -> None:
    with tenant_context(acme):
        own = Customer.objects.get().pk
        many = Customer.objects.bulk_create([Customer(name=f"Customer {number}") for number in range(count)])
        rows = [Invoice(number=f"B-{one.pk}", customer_id=one.pk) for one in many]

        assert statements_of(lambda: Invoice.objects.bulk_create(rows)) == 2
        for row in rows:
            row.customer_id = own
        assert statements_of(lambda: Invoice.objects.bulk_update(rows, ["customer"])) == 2
        assert statements_of(lambda: Invoice.objects.bulk_update(rows, ["number"])) == 1


@pytest.mark.parametrize(("count", "statements"), [(4, 1), (5, 2), (9, 3)])
def test_bulk_create_with_many_ids_checks_some_at_a_time(
    acme: Tenant, globex: Tenant, monkeypatch: pytest.MonkeyPatch, count: int, statements: int
) -> None:
    monkeypatch.setattr(references, "MAX_KEYS", 4)
    foreign = invoice_of(globex).customer_id
    with tenant_context(acme):
        many = Customer.objects.bulk_create([Customer(name=f"Customer {number}") for number in range(count)])
        rows = [Invoice(number=f"B-{one.pk}", customer_id=one.pk) for one in many]
        with pytest.raises(CrossTenantWrite, match=f"cannot be {foreign}:"):
            Invoice.objects.bulk_create([*rows, Invoice(number="X", customer_id=foreign)])

        assert statements_of(lambda: Invoice.objects.bulk_create(rows)) == statements + 1


def references_by_id(own: int, foreign: int) -> list[Invoice]:
    """Return nine rows, one of which refers to the other tenant's customer."""
    return [Invoice(number=f"B-{n}", customer_id=foreign if n == 4 else own) for n in range(9)]


@pytest.mark.parametrize(
    "write",
    [
        lambda own, foreign: Invoice.objects.create(number="X", customer_id=foreign),
        lambda own, foreign: Invoice.objects.create(number="X", customer_id=str(foreign)),
        lambda own, foreign: Invoice.objects.create(number="X", customer_id=0),
        lambda own, foreign: Invoice.objects.get_or_create(number="X", defaults={"customer_id": foreign}),
        lambda own, foreign: Invoice.objects.update_or_create(
            number="A-1", defaults={"customer_id": foreign}
        ),
        lambda own, foreign: async_to_sync(Invoice.objects.all().acreate)(number="X", customer_id=foreign),
        lambda own, foreign: referring(foreign).save(),
        lambda own, foreign: referring(foreign).save(update_fields=["customer_id"]),
        lambda own, foreign: Invoice.objects.bulk_create(references_by_id(own, foreign)),
        lambda own, foreign: Invoice.objects.bulk_create(
            references_by_id(own, foreign), ignore_conflicts=True
        ),
        lambda own, foreign: Invoice.objects.bulk_update([referring(foreign)], ["customer"]),
        lambda own, foreign: Invoice.objects.update(customer_id=foreign),
        lambda own, foreign: Invoice.objects.first().lines.update(invoice=invoice_referring(foreign)),
    ],
)
def test_foreign_key_by_id_of_another_tenant_s_row_raises_and_changes_nothing(
    acme: Tenant, globex: Tenant, write: Callable[[int, int], Any]
) -> None:
    own, foreign = invoice_of(acme).customer_id, invoice_of(globex).customer_id
    before = snapshot()

    with tenant_context(acme), pytest.raises(CrossTenantWrite, match="tenant"):
        write(own, foreign)

    assert snapshot() == before


def referring(customer_id: int) -> Invoice:
    invoice: Invoice = Invoice.objects.first()
    invoice.customer_id = customer_id
    return invoice


def invoice_referring(customer_id: int) -> int:
    return int(Invoice.unscoped.get(customer=customer_id).pk)


def family(parent_id: int) -> list[Customer]:
    """Return nine new rows, the children first, whose parent is the last one."""
    ids = range(parent_id + 8, parent_id - 1, -1)
    return [Customer(pk=pk, name="New", parent_id=None if pk == parent_id else parent_id) for pk in ids]


def test_bulk_create_of_rows_that_refer_to_each_other_saves_them(acme: Tenant) -> None:
    with tenant_context(acme):
        assert statements_of(lambda: Customer.objects.bulk_create(family(1_000_000))) == 1

        parent = Customer(pk=2_000_000, name="New")
        Customer.objects.bulk_create([Customer(name="New", parent=parent), parent])

        assert Customer.objects.filter(parent=1_000_000).count() == 8
        assert Customer.objects.filter(parent=parent).count() == 1


@pytest.mark.parametrize(
    "conflicts",
    [
        {"ignore_conflicts": True},
        {"update_conflicts": True, "update_fields": ["name"], "unique_fields": ["tenant", "name"]},
    ],
)
def test_bulk_create_that_may_not_insert_a_row_refuses_a_reference_to_its_id(
    acme: Tenant, globex: Tenant, conflicts: dict[str, Any]
) -> None:
    rows = family(invoice_of(globex).customer_id)
    before = snapshot()

    with tenant_context(acme), pytest.raises(CrossTenantWrite, match="parent"):
        Customer.objects.bulk_create(rows, **conflicts)

    assert snapshot() == before


def test_foreign_key_by_id_in_the_tenant_or_null_is_saved(acme: Tenant) -> None:
    with tenant_context(acme):
        own = Customer.objects.get()

        made = Invoice.objects.create(number="A-3", customer_id=str(own.pk))
        Invoice.objects.bulk_create(references_by_id(own.pk, own.pk))

        assert made.customer == own
        assert Invoice.objects.count() == 12


UPSERT: dict[str, Any] = {"update_conflicts": True, "update_fields": ["number", "is_paid"]}


@pytest.mark.parametrize("unique_fields", [["pk"], ["id"], ["number"], []])
def test_upsert_that_could_update_another_tenant_s_row_raises_and_changes_nothing(
    acme: Tenant, globex: Tenant, unique_fields: list[str]
) -> None:
    own, foreign = invoice_of(acme), invoice_of(globex)
    rows = [Invoice(pk=foreign.pk, number="X", customer=own.customer)]
    before = snapshot()

    with tenant_context(acme), pytest.raises(CrossTenantWrite, match='includes "tenant"'):
        Invoice.objects.bulk_create(rows, **UPSERT, unique_fields=unique_fields)

    assert snapshot() == before


def test_upsert_that_takes_another_tenant_s_row_raises(acme: Tenant, globex: Tenant) -> None:
    own, foreign = invoice_of(acme), invoice_of(globex)
    taken = Invoice(pk=foreign.pk, number="X", customer=own.customer)
    fields = ["number", "tenant", "customer"]

    with tenant_context(acme), pytest.raises(CrossTenantWrite):
        async_to_sync(Invoice.objects.all().abulk_create)(
            [taken], update_conflicts=True, update_fields=fields, unique_fields=["pk"]
        )

    assert invoice_of(globex).number == "G-1"


def test_upsert_of_lines_by_id_raises(acme: Tenant, globex: Tenant) -> None:
    line = InvoiceLine(pk=line_of(invoice_of(globex)).pk, invoice=invoice_of(acme), text="X", amount=1)

    with tenant_context(acme), pytest.raises(CrossTenantWrite, match='includes "invoice"'):
        InvoiceLine.objects.bulk_create(
            [line], update_conflicts=True, update_fields=["text"], unique_fields=["id"]
        )


@pytest.mark.parametrize("count", [1, 3, 9])
def test_upsert_by_a_constraint_with_the_tenant_updates_and_inserts_the_tenant_s_rows(
    acme: Tenant, globex: Tenant, count: int
) -> None:
    with tenant_context(globex):
        customer = Customer.objects.get()
        rows = [Invoice(number=f"A-{n + 1}", customer=customer, is_paid=True) for n in range(count)]
        Invoice.objects.bulk_create(rows[:1])

        Invoice.objects.bulk_create(rows, **UPSERT, unique_fields=["tenant", "number"])

        assert Invoice.objects.filter(is_paid=True).count() == count
    assert not Invoice.unscoped.filter(is_paid=True, tenant=acme).exists()


def test_upsert_by_a_constraint_with_the_tenant_and_another_tenant_s_id_is_refused_by_postgresql(
    acme: Tenant, globex: Tenant
) -> None:
    own, foreign = invoice_of(acme), invoice_of(globex)
    rows = [Invoice(pk=foreign.pk, number="X", customer=own.customer)]
    before = snapshot()

    with tenant_context(acme), pytest.raises(IntegrityError), transaction.atomic():
        Invoice.objects.bulk_create(rows, **UPSERT, unique_fields=["tenant_id", "number"])

    assert snapshot() == before


def test_ignored_conflicts_with_another_tenant_s_row_change_nothing(acme: Tenant, globex: Tenant) -> None:
    own, foreign = invoice_of(acme), invoice_of(globex)
    before = snapshot()

    with tenant_context(acme):
        Invoice.objects.bulk_create(
            [Invoice(pk=foreign.pk, number="X", customer=own.customer)], ignore_conflicts=True
        )

    assert snapshot() == before


def test_bulk_update_in_bulk_and_update_or_create_by_another_tenant_s_id_find_no_row(
    acme: Tenant, globex: Tenant
) -> None:
    own, foreign = invoice_of(acme), invoice_of(globex)
    before = snapshot()

    with tenant_context(acme):
        assert Invoice.objects.bulk_update([Invoice(pk=foreign.pk, number="X")], ["number"]) == 0
        assert Invoice.objects.in_bulk([own.pk, foreign.pk]) == {own.pk: own}
        with pytest.raises(IntegrityError), transaction.atomic():
            Invoice.objects.update_or_create(
                pk=foreign.pk, defaults={"number": "X", "customer": own.customer}
            )

    assert snapshot() == before


def test_bulk_update_of_all_fields_with_the_tenant_writes_the_others(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme):
        invoice = Invoice.objects.first()
        invoice.number = "A-9"

        assert Invoice.objects.bulk_update([invoice], ["tenant", "number"]) == 1

    with scopes_disabled():
        invoice.tenant = globex
        Invoice.objects.bulk_update([invoice], ["tenant"])
    assert numbers(Invoice.unscoped.filter(tenant=globex).order_by("number")) == ["A-9", "G-1"]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_deletions_check_the_row_alone_whatever_it_takes_along(acme: Tenant, count: int) -> None:
    with tenant_context(acme):
        invoice = Invoice.objects.first()
        line = InvoiceLine(invoice=invoice, text="New", amount=1)
        InvoiceLine.objects.bulk_create(
            [line, *(InvoiceLine(invoice=invoice, amount=1) for _ in range(count))]
        )

        assert statements_of(line.delete) == 2
        assert statements_of(InvoiceLine.objects.filter(invoice=Invoice.objects.last()).delete) == 1
        assert statements_of(invoice.delete) == 3  # the check, all lines, the invoice


@pytest.mark.parametrize("count", [1, 3, 9])
def test_additions_to_a_reverse_relation_take_one_more_statement_for_all_rows(
    acme: Tenant, count: int
) -> None:
    with tenant_context(acme):
        first, second = Invoice.objects.all()
        lines = [InvoiceLine(invoice=first, text="New", amount=1) for _ in range(count)]
        InvoiceLine.objects.bulk_create(lines)

        assert statements_of(lambda: second.lines.add(*lines)) == 2
        assert second.lines.filter(text="New").count() == count
        with pytest.raises(TypeError, match="instance expected"):
            second.lines.add("line")


def test_deletion_inside_the_tenant_deletes_the_row(acme: Tenant) -> None:
    with tenant_context(acme):
        first, second = Invoice.objects.all()

        key = first.pk
        assert Invoice(pk=key).delete() == (2, {"invoicing.InvoiceLine": 1, "invoicing.Invoice": 1})
        async_to_sync(second.adelete)()
        assert Invoice(pk=key).delete(using="default") == (0, {})


def test_deletion_without_a_tenant_raises_and_deletes_nothing(acme: Tenant) -> None:
    line = line_of(invoice_of(acme))

    for row in (line, line.invoice):
        with pytest.raises(NoCurrentTenant):
            row.delete()
    with scopes_disabled():
        assert line.delete() == (1, {"invoicing.InvoiceLine": 1})


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
