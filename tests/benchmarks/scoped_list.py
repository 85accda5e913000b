"""A list of a scoped model beside the same list filtered by hand."""

import argparse

from django.db import connection

from tenants.models import Tenant
from tenants.scoping import tenant_context
from tests.benchmarks._report import Report
from tests.benchmarks._turns import seconds_of, take_turns
from tests.example_app.models import Invoice

LISTED = 50
TARGET = 1.1

POPULATE = """
INSERT INTO tenants (name) SELECT 'Tenant ' || n FROM generate_series(1, %(tenants)s) AS n;
INSERT INTO invoicing_customer (name, tenant_id) SELECT 'Customer', id FROM tenants;
INSERT INTO invoicing_invoice (number, is_paid, customer_id, tenant_id)
SELECT 'I-' || n, n %% 2 = 0, customer.id, customer.tenant_id
FROM invoicing_customer AS customer, generate_series(1, 100) AS n;
ANALYZE invoicing_invoice;
"""
NO_POLICIES = "DROP POLICY tenant_row_security ON {}"
TABLES = ("invoicing_customer", "invoicing_invoice", "invoicing_invoiceline")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the number of rounds."""
    parser.add_argument("--rounds", type=int, default=200, help="rounds of 20 lists for each way")


def run(arguments: argparse.Namespace) -> Report:
    """Measure lists of 50 of 100 invoices of a tenant, without policies of row-level security."""
    with connection.cursor() as cursor:
        cursor.execute(POPULATE, {"tenants": 10 if arguments.quick else 1_000})
        for table in TABLES:
            cursor.execute(NO_POLICIES.format(table))
    tenant = Tenant.objects.order_by("id").last()
    assert tenant is not None

    def scoped() -> None:
        with tenant_context(tenant):
            assert len(Invoice.objects.unpaid()[:LISTED]) == LISTED

    def by_hand() -> None:
        assert len(Invoice.unscoped.filter(tenant_id=tenant.pk).filter(is_paid=False)[:LISTED]) == LISTED

    ways = {"scoped": seconds_of(scoped, times=20), "filtered by hand": seconds_of(by_hand, times=20)}
    turns = take_turns(ways, rounds=5 if arguments.quick else arguments.rounds)
    report = Report()
    report.compare(f"list of {LISTED}", turns, unit="ms", scale=1000)
    ratio = turns.ratio("scoped", "filtered by hand").median
    report.require(f"at most {TARGET} times the list filtered by hand", ratio <= TARGET)
    return report
