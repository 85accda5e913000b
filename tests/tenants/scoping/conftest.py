"""Two tenants with the same invoices, each in its own numbers."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from clerk_integration.instance import store_instance
from tenants.models import Tenant
from tenants.scoping import scopes_disabled, tenant_context
from tenants.services import sync_organization
from tests.example_app.models import Customer, Invoice, InvoiceLine
from tests.sandbox import SandboxControl

MIDDLEWARE = (
    "tenants.scoping.middleware.TenantMiddleware",
    "tests.example_app.middleware.staff_tenant",
)


UNPRIVILEGED = "pg_monitor"
"""A role of every PostgreSQL server that is no superuser, so that policies apply to it."""


def grant_to_unprivileged(connection: Any) -> None:
    with connection.cursor() as cursor:
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            cursor.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO PUBLIC")


def become_unprivileged(connection: Any, **_: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {UNPRIVILEGED}")


class Member:
    """A Clerk user who uses the example app, one of two admins of the active organization."""

    def __init__(self, sandbox: SandboxControl) -> None:
        self.sandbox = sandbox
        self.id = sandbox.user()["id"]
        self.organization_id = sandbox.organization("Acme", created_by=sandbox.user()["id"])["id"]
        sandbox.membership(self.organization_id, self.id, "org:admin")
        self.client = Client(raise_request_exception=False)

    def headers(self, organization_id: str | None = "", tenant_id: object = None, **variant: Any) -> Any:
        active = self.organization_id if organization_id == "" else organization_id
        headers = {"Authorization": f"Bearer {self.sandbox.token(self.id, active, **variant)}"}
        return headers if tenant_id is None else headers | {"X-Tenant-Id": str(tenant_id)}

    def leave(self) -> None:
        self.sandbox.api("DELETE", f"/organizations/{self.organization_id}/memberships/{self.id}")

    def get(self, path: str, *args: Any, **headers: Any) -> Any:
        return self.client.get(path, headers=self.headers(*args, **headers))


@pytest.fixture
def example_app(settings: Settings) -> None:
    """Install the middleware of the example app."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *MIDDLEWARE]


@pytest.fixture
def ada(sandbox: SandboxControl) -> Member:
    store_instance(sandbox.description["instanceId"])
    return Member(sandbox)


@pytest.fixture
def mirrored(ada: Member) -> Tenant:
    tenant = sync_organization(ada.organization_id)
    assert tenant is not None
    ada.sandbox.clear_requests()
    return tenant


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
