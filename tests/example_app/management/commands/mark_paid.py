"""Mark all invoices of one tenant as paid."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tenants.models import Tenant
from tenants.scoping import tenant_context
from tests.example_app.models import Invoice


class Command(BaseCommand):
    help = "Mark all invoices of a tenant as paid."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", type=int)

    def handle(self, *args: Any, tenant: int, **options: Any) -> None:
        with tenant_context(Tenant.objects.get(pk=tenant)):
            self.stdout.write(f"Paid: {Invoice.objects.unpaid().update(is_paid=True)}")
