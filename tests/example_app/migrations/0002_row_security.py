from django.db import migrations

from tenants.scoping import EnableTenantRowSecurity


class Migration(migrations.Migration):
    dependencies = [("invoicing", "0001_invoices")]

    operations = [
        EnableTenantRowSecurity("invoicing.Customer"),
        EnableTenantRowSecurity("invoicing.Invoice"),
        EnableTenantRowSecurity("invoicing.InvoiceLine", tenant_path="invoice__tenant"),
    ]
