"""No path through the example app shows or changes another tenant's rows, with and without row security.

Ada is an admin of Acme and has left Globex. Every row of Globex carries the name "Globex" or the number
"G-1". Each path is called with ids of Globex's rows; its answer must not name them, and the rows must be the
same afterwards. `test_leaks_bite.py` takes each rule of scoping away and shows that this file fails.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.db.backends.signals import connection_created
from django.test import AsyncClient, Client, RequestFactory
from rest_framework.relations import PrimaryKeyRelatedField

from tenants.lifecycle.delete import delete
from tenants.models import Membership, Tenant
from tenants.scoping import CrossTenantWrite, scopes_disabled, tenant_context
from tests.example_app.api import InvoiceSerializer, InvoiceViewSet
from tests.example_app.models import Customer, Invoice, InvoiceLine
from tests.example_app.tasks import celery_app
from tests.tenants.scoping.conftest import (
    UNPRIVILEGED,
    Member,
    become_unprivileged,
    grant_to_unprivileged,
    invoice_of,
)
from tests.tenants.scoping.workers import work_off_queue
from tests.workers import empty_queue

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.example_app.urls"),
    pytest.mark.usefixtures("example_app", "role"),
]

API, ADMIN = "/api/v1/invoices", "/admin/invoicing/invoice/"
FOREIGN = ("Globex", "G-1")


@pytest.fixture(params=["superuser", UNPRIVILEGED])
def role(request: pytest.FixtureRequest, db: None) -> Iterator[str]:
    """The database's role: the policies of row-level security apply to the unprivileged one only."""
    if request.param == UNPRIVILEGED:
        grant_to_unprivileged(connection)
        connection_created.connect(become_unprivileged)
        become_unprivileged(connection)
    yield request.param
    connection_created.disconnect(become_unprivileged)
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
    empty_queue()


@dataclass
class World:
    """Ada's ways into the app, and a row of each kind of both tenants."""

    ada: Member
    acme: Tenant
    globex: Tenant
    own: Invoice
    foreign: Invoice
    foreign_line: InvoiceLine
    staff: Client
    headers: dict[str, str] = field(default_factory=dict)

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        return self.ada.client.generic(
            method,
            path,
            data=json.dumps(body),
            content_type="application/json",
            headers=self.headers | headers,
        )

    def form(self, path: str, **fields: Any) -> Any:
        return self.ada.client.post(path, fields, headers=self.headers)


@pytest.fixture
def world(
    role: str, ada: Member, mirrored: Tenant, globex: Tenant, with_invoices: Callable[..., Tenant]
) -> World:
    with_invoices(mirrored, "A-1", "A-2")
    Membership.objects.create(tenant=globex, clerk_user_id="user_of_globex", role="owner")
    Membership.objects.create(tenant=globex, clerk_user_id=ada.id, role="owner", is_active=False)
    staff = Client()
    staff.force_login(get_user_model().objects.create_superuser("staff"))
    staff.get(f"/choose-tenant/{mirrored.pk}")
    with scopes_disabled():
        line = InvoiceLine.objects.select_related("invoice").get(invoice__tenant=globex)
    claims = {
        "o": {"id": ada.organization_id, "rol": "admin", "per": "create", "fpm": "1"},
        "fea": "o:invoices",
    }
    return World(
        ada,
        mirrored,
        globex,
        own=invoice_of(mirrored),
        foreign=invoice_of(globex),
        foreign_line=line,
        staff=staff,
        headers=ada.headers(claims=claims),
    )


def globex_rows(globex: Tenant) -> list[tuple[Any, ...]]:
    with scopes_disabled():
        return [
            *Customer.objects.filter(tenant=globex).values_list(),
            *Invoice.objects.filter(tenant=globex).values_list(),
            *InvoiceLine.objects.filter(invoice__tenant=globex).values_list(),
        ]


def inline_form(invoice: Invoice, line_id: Any) -> dict[str, Any]:
    """The fields of the admin's page of an invoice, with one line of any id."""
    return {
        "number": "A-9",
        "customer": invoice.customer_id,
        "lines-TOTAL_FORMS": 1,
        "lines-INITIAL_FORMS": 1,
        "lines-0-id": line_id,
        "lines-0-invoice": invoice.pk,
        "lines-0-text": "Taken",
        "lines-0-amount": 1,
    }


Path = Callable[[World], Any]

API_PATHS: dict[str, tuple[Path, int]] = {
    "list": (lambda w: w.api("GET", API), 200),
    "search": (lambda w: w.api("GET", f"{API}?search=Line of"), 200),
    "search of foreign": (lambda w: w.api("GET", f"{API}?search=Globex"), 200),
    "ordering": (lambda w: w.api("GET", f"{API}?ordering=-customer__name"), 200),
    "lines": (lambda w: w.api("GET", "/api/v1/lines"), 200),
    "detail": (lambda w: w.api("GET", f"{API}/{w.foreign.pk}"), 404),
    "detail of a line": (lambda w: w.api("GET", f"/api/v1/lines/{w.foreign_line.pk}"), 404),
    "update": (lambda w: w.api("PATCH", f"{API}/{w.foreign.pk}", {"number": "X"}), 404),
    "update of a line": (lambda w: w.api("PATCH", f"/api/v1/lines/{w.foreign_line.pk}", {"text": "X"}), 404),
    "delete": (lambda w: w.api("DELETE", f"{API}/{w.foreign.pk}"), 404),
    "delete of a line": (lambda w: w.api("DELETE", f"/api/v1/lines/{w.foreign_line.pk}"), 404),
    "foreign key, create": (
        lambda w: w.api("POST", API, {"number": "X", "customer": w.foreign.customer_id}),
        400,
    ),
    "foreign key, update": (
        lambda w: w.api("PATCH", f"{API}/{w.own.pk}", {"customer": w.foreign.customer_id}),
        400,
    ),
    "line of a foreign invoice": (
        lambda w: w.api("POST", "/api/v1/lines", {"invoice": w.foreign.pk, "text": "X", "amount": 1}),
        400,
    ),
    "nested create": (
        lambda w: w.api(
            "POST",
            API,
            {
                "number": "X",
                "customer": w.own.customer_id,
                "tenant": w.globex.pk,
                "lines": [{"text": "X", "amount": 1, "invoice": w.foreign.pk}],
            },
        ),
        201,
    ),
    "bulk": (lambda w: w.form(f"{API}/mark_paid", id=[w.foreign.pk, w.own.pk]), 200),
    "other tenant by header": (lambda w: w.api("GET", API, **{"X-Tenant-Id": str(w.globex.pk)}), 404),
    "plain view": (lambda w: w.api("GET", "/numbers"), 200),
    "stream": (lambda w: w.api("GET", "/export"), 200),
}

ADMIN_PATHS: dict[str, tuple[Path, int]] = {
    "list": (lambda w: w.staff.get(ADMIN), 200),
    "search": (lambda w: w.staff.get(f"{ADMIN}?q=Globex"), 200),
    "filter": (lambda w: w.staff.get(f"{ADMIN}?customer__id__exact={w.foreign.customer_id}"), 200),
    "ordering": (lambda w: w.staff.get(f"{ADMIN}?o=-2"), 200),
    "page": (lambda w: w.staff.get(f"{ADMIN}{w.foreign.pk}/change/"), 302),
    "own page": (lambda w: w.staff.get(f"{ADMIN}{w.own.pk}/change/"), 200),
    "delete page": (lambda w: w.staff.post(f"{ADMIN}{w.foreign.pk}/delete/", {"post": "yes"}), 302),
    "change": (lambda w: w.staff.post(f"{ADMIN}{w.foreign.pk}/change/", inline_form(w.foreign, "")), 302),
    "foreign key": (
        lambda w: w.staff.post(
            f"{ADMIN}{w.own.pk}/change/", inline_form(w.own, "") | {"customer": w.foreign.customer_id}
        ),
        200,
    ),
    "inline": (
        lambda w: w.staff.post(f"{ADMIN}{w.own.pk}/change/", inline_form(w.own, w.foreign_line.pk)),
        200,
    ),
    "action": (
        lambda w: w.staff.post(ADMIN, {"action": "mark_paid", "_selected_action": [w.foreign.pk]}),
        302,
    ),
    "delete action": (
        lambda w: w.staff.post(
            ADMIN, {"action": "delete_selected", "_selected_action": [w.foreign.pk], "post": "yes"}
        ),
        302,
    ),
}


def content(answer: Any) -> str:
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return str(body.decode()) + str(answer.headers)


@pytest.mark.parametrize("paths", [API_PATHS, ADMIN_PATHS], ids=["api", "admin"])
def test_no_request_shows_or_changes_rows_of_another_tenant(
    world: World, paths: dict[str, tuple[Path, int]]
) -> None:
    before = globex_rows(world.globex)
    leaks = []
    for name, (path, status) in paths.items():
        answer = path(world)
        # Foreign words that the request itself contains are no leak.
        shown = [word for word in FOREIGN if "=Globex" not in answer.wsgi_request.get_full_path()]
        if answer.status_code != status or any(word in content(answer) for word in shown):
            leaks.append((name, answer.status_code))
        if globex_rows(world.globex) != before:
            leaks.append((name, "changed rows"))
            break

    assert leaks == []
    assert "A-1" in content(world.api("GET", API))
    assert "A-1" in content(world.staff.get(ADMIN))


def invoice(w: World, **fields: Any) -> Invoice:
    return Invoice(**{"number": "X", "customer_id": w.own.customer_id, "tenant": w.acme} | fields)


def add_foreign_line(w: World) -> tuple[int]:
    """Add the other tenant's line to an invoice; return how many lines of the invoice it then is."""
    w.own.lines.add(w.foreign_line)
    return (w.own.lines.filter(pk=w.foreign_line.pk).count(),)


CARELESS_WRITES: dict[str, Path] = {
    "new row of the other tenant": lambda w: invoice(w, tenant=w.globex).save(),
    "row with the id of the other tenant's": lambda w: invoice(w, pk=w.foreign.pk).save(),
    "line with the id of the other tenant's": lambda w: InvoiceLine(
        pk=w.foreign_line.pk, invoice=w.own, text="X", amount=1
    ).save(),
    "line of the other tenant's row": lambda w: InvoiceLine(invoice=w.foreign, text="X", amount=1).save(),
    "deletion": lambda w: w.foreign.delete(),
    "deletion by id": lambda w: Invoice(pk=w.foreign.pk).delete(),
    "deletion of a line": lambda w: w.foreign_line.delete(),
    "bulk_create": lambda w: Invoice.objects.bulk_create(
        [invoice(w), invoice(w, number="Y", tenant=w.globex)]
    ),
    "bulk_create of lines": lambda w: InvoiceLine.objects.bulk_create(
        [InvoiceLine(invoice=w.own, text="X", amount=1), InvoiceLine(invoice=w.foreign, text="X", amount=1)]
    ),
    "upsert by id": lambda w: Invoice.objects.bulk_create(
        [invoice(w, pk=w.foreign.pk)], update_conflicts=True, update_fields=["number"], unique_fields=["pk"]
    ),
    "upsert of a line by id": lambda w: InvoiceLine.objects.bulk_create(
        [InvoiceLine(pk=w.foreign_line.pk, invoice=w.own, text="X", amount=1)],
        update_conflicts=True,
        update_fields=["text"],
        unique_fields=["pk"],
    ),
    "foreign key by id": lambda w: invoice(w, customer_id=w.foreign.customer_id).save(),
    "foreign key by id, bulk_create": lambda w: Invoice.objects.bulk_create(
        [invoice(w), invoice(w, number="Y", customer_id=w.foreign.customer_id)]
    ),
    "foreign key by id, bulk_update": lambda w: Invoice.objects.bulk_update(
        [invoice(w, pk=w.own.pk, customer_id=w.foreign.customer_id)], ["customer"]
    ),
    "addition to a reverse relation": add_foreign_line,
    "addition to the other tenant's row": lambda w: w.foreign.lines.add(w.own.lines.get()),
    "update of the tenant": lambda w: Invoice.objects.filter(pk=w.own.pk).update(tenant=w.globex),
    "update of a foreign key": lambda w: InvoiceLine.objects.update(invoice=w.foreign),
}


def is_without_effect(result: Any) -> bool:
    """Return whether a write has changed no row, because a policy hides the row."""
    return isinstance(result, tuple) and result[0] == 0


def test_careless_writes_of_a_view_are_refused(world: World) -> None:
    before = globex_rows(world.globex)
    written = []
    for name, write in CARELESS_WRITES.items():
        with tenant_context(world.acme):
            try:
                if not is_without_effect(write(world)):
                    written.append(name)
            except (CrossTenantWrite, IntegrityError):  # A policy hides the row whose key is taken.
                pass
        if globex_rows(world.globex) != before:
            written.append(f"{name}: changed rows")
            break

    assert written == []


def test_lines_of_a_row_are_scoped_by_the_path_of_their_manager(world: World) -> None:
    with tenant_context(world.acme):
        assert [line.text for line in world.own.lines.all()] == ["Line of Acme"]
        assert list(world.foreign.lines.all()) == []


class CarelessSerializer(InvoiceSerializer):
    customer: Any = PrimaryKeyRelatedField(queryset=Customer.unscoped.all())


class CarelessViewSet(InvoiceViewSet):
    queryset = Invoice.unscoped.all()
    serializer_class = CarelessSerializer

    def get_permissions(self) -> list[Any]:
        return []


def test_viewset_over_unscoped_managers_is_scoped_all_the_same(world: World) -> None:
    view = CarelessViewSet.as_view({"get": "list", "post": "create"})
    body = {"number": "X", "customer": world.foreign.customer_id}

    listed = view(RequestFactory().get("/", headers=world.headers))
    created = view(RequestFactory().post("/", body, "application/json", headers=world.headers))
    anonymous = view(RequestFactory().get("/"))

    assert [row["number"] for row in listed.data] == ["A-1", "A-2"]
    assert (created.status_code, list(created.data)) == (400, ["type", "errors"])
    assert anonymous.status_code == 401


def test_search_for_words_of_another_tenant_finds_nothing(world: World) -> None:
    assert world.api("GET", f"{API}?search=Globex").json() == []
    assert not world.staff.get(f"{ADMIN}?q=Globex").context["cl"].result_list


def test_async_view_shows_the_tenant_s_rows_only(world: World) -> None:
    async def get() -> Any:
        answer = await AsyncClient().get("/unpaid", headers=world.headers)
        await sync_to_async(connections.close_all)()
        return answer

    assert asyncio.run(get()).json()["numbers"] == ["A-1", "A-2"]


@pytest.fixture
def eager_celery() -> Iterator[None]:
    """Run Celery tasks where they are sent; `test_tasks.py` runs a worker."""
    celery_app.conf.task_always_eager = True
    yield
    celery_app.conf.task_always_eager = False


@pytest.mark.usefixtures("eager_celery")
def test_tasks_and_command_change_the_tenant_s_rows_only(world: World) -> None:
    before = globex_rows(world.globex)

    assert world.form(f"{API}/remind", id=world.foreign.pk).status_code == 202
    assert [type(error) for error in work_off_queue()] == [Invoice.DoesNotExist]
    assert world.form("/close?prefix=").status_code == 202
    call_command("mark_paid", str(world.acme.pk))

    assert globex_rows(world.globex) == before
    with tenant_context(world.acme):
        assert Invoice.objects.unpaid().count() == 0


def test_raw_sql_stays_inside_the_tenant_with_row_level_security(world: World, role: str) -> None:
    lines = world.api("GET", "/total").json()["lines"]

    assert lines == (2 if role == UNPRIVILEGED else 3)


def test_row_level_security_shows_unscoped_managers_the_current_tenant_s_rows_only(
    world: World, role: str
) -> None:
    if role != UNPRIVILEGED:
        pytest.skip("policies do not apply to superusers")
    assert Invoice.unscoped.count() == 0
    with scopes_disabled():
        assert Invoice.unscoped.count() == 3
    with tenant_context(world.acme):
        assert Invoice.unscoped.count() == 2
        assert Invoice.unscoped.filter(pk=world.foreign.pk).update(number="X") == 0


def test_row_level_security_after_a_rollback_to_a_savepoint_shows_the_current_tenant_s_rows_only(
    world: World, role: str
) -> None:
    if role != UNPRIVILEGED:
        pytest.skip("policies do not apply to superusers")
    with transaction.atomic(), tenant_context(world.globex):
        assert Invoice.unscoped.count() == 1
        savepoint = transaction.savepoint()
        with tenant_context(world.acme):
            assert Invoice.unscoped.count() == 2
            transaction.savepoint_rollback(savepoint)
            assert FOREIGN[1] not in {invoice.number for invoice in Invoice.unscoped.all()}


def test_row_level_security_lets_a_tenant_be_deleted_with_its_rows(world: World) -> None:
    delete(world.globex, acting_user=None)

    with scopes_disabled():
        assert set(Invoice.objects.values_list("tenant", flat=True)) == {world.acme.pk}
