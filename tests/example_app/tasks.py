"""Work that a web request hands to a worker, for the tenant of the request."""

from celery import Celery
from procrastinate.contrib.django import app

from tenants.scoping import carry_tenant, require_tenant
from tests.example_app.models import Invoice

celery_app = Celery("example", broker="memory://", backend="cache+memory://", set_as_current=False)
celery_app.conf.broker_transport_options = {"polling_interval": 0.01}


@carry_tenant
@app.task(name="invoicing.remind")
def remind(invoice_id: int) -> None:
    """Put a reminder on an invoice; with Procrastinate."""
    Invoice.objects.unpaid().get(pk=invoice_id).lines.create(text="Reminder", amount=5)


@carry_tenant
@celery_app.task(name="invoicing.close")
def close_invoices(number_prefix: str) -> str:
    """Mark invoices as paid; with Celery."""
    closed = Invoice.objects.filter(number__startswith=number_prefix).update(is_paid=True)
    return f"{require_tenant()}: {closed}"
