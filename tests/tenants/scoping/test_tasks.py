"""The tenant travels with a job, to workers of Procrastinate and of Celery."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain
from procrastinate.contrib.django.models import ProcrastinateJob

from tenants.models import Tenant
from tenants.scoping import NoCurrentTenant, carry_tenant, scopes_disabled, tenant_context
from tests.example_app.models import Invoice, InvoiceLine
from tests.example_app.tasks import close_invoices, remind
from tests.tenants.scoping.conftest import invoice_of
from tests.tenants.scoping.workers import celery_worker, work_off_queue
from tests.workers import empty_queue, wait_until, workers_on

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _empty_queue() -> Iterator[None]:
    yield
    empty_queue()


def paid() -> list[str]:
    return list(Invoice.unscoped.filter(is_paid=True).order_by("number").values_list("number", flat=True))


def test_procrastinate_job_runs_for_the_tenant_that_enqueued_it(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(acme):
        remind.defer(invoice_id=invoice_of(acme).pk)
        remind.configure(priority=1).batch_defer({"invoice_id": invoice_of(globex).pk})

    assert [type(error) for error in work_off_queue()] == [type(None), Invoice.DoesNotExist]

    reminded = InvoiceLine.unscoped.filter(text="Reminder").values_list("invoice__number", flat=True)
    assert list(reminded) == ["A-1"]


@pytest.mark.slow
def test_procrastinate_worker_runs_a_job_for_its_tenant(tmp_path: Path, acme: Tenant) -> None:
    with workers_on(tmp_path, "tests.settings") as workers, tenant_context(acme):
        remind.defer(invoice_id=invoice_of(acme).pk)
        workers.launch()
        wait_until(lambda: InvoiceLine.unscoped.filter(text="Reminder").exists())


def test_procrastinate_job_of_a_deleted_tenant_fails_and_says_so(acme: Tenant) -> None:
    with tenant_context(acme):
        remind.defer(invoice_id=invoice_of(acme).pk)
    tenant_id = acme.pk
    acme.delete()

    [error] = work_off_queue()

    assert isinstance(error, NoCurrentTenant)
    assert f"Tenant {tenant_id}" in str(error)


@pytest.mark.slow
def test_celery_task_runs_for_the_tenant_that_sent_it(acme: Tenant, globex: Tenant) -> None:
    with celery_worker():
        with tenant_context(acme):
            results = [
                close_invoices.delay(""),
                close_invoices.s("A").apply_async(),
                chain(close_invoices.si("A-1"), close_invoices.si("A-2")).apply_async(),
            ]
        with tenant_context(globex):
            results.append(close_invoices.apply_async(["X"], headers={"other": "header"}))
        answers = [result.get(timeout=20, interval=0.01) for result in results]

    assert answers == ["Acme: 2", "Acme: 2", "Acme: 1", "Globex: 0"]
    assert paid() == ["A-1", "A-2"]


@pytest.mark.parametrize(
    "enqueue",
    [
        lambda: remind.defer(invoice_id=1),
        lambda: remind.configure().defer(invoice_id=1),
        lambda: close_invoices.delay("A"),
        lambda: close_invoices.s("A"),
    ],
)
def test_task_enqueued_without_a_tenant_raises_and_is_not_enqueued(enqueue: Callable[[], Any]) -> None:
    with pytest.raises(NoCurrentTenant):
        enqueue()
    with pytest.raises(NoCurrentTenant), scopes_disabled():
        enqueue()
    assert not ProcrastinateJob.objects.exists()


def test_task_called_directly_runs_for_the_current_tenant(acme: Tenant, globex: Tenant) -> None:
    with tenant_context(globex):
        assert close_invoices("") == "Globex: 1"
    with pytest.raises(NoCurrentTenant):
        close_invoices("")


def test_carry_tenant_below_the_task_s_decorator_is_refused() -> None:
    with pytest.raises(TypeError, match="above"):
        carry_tenant(len)
