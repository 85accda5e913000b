"""The inbox in the admin."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from clerk_integration.admin.pagination import LARGE
from clerk_integration.models import WebhookDelivery
from tests.webhooks import WebhookSender, is_queued
from tests.workers import empty_queue

pytestmark = pytest.mark.django_db(transaction=True)

CHANGELIST = "/admin/clerk_integration/webhookdelivery/"
SCRIPT = "<script>alert(1)</script>"


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer() -> Client:
    return staff("view_webhookdelivery")


@pytest.fixture
def operator() -> Client:
    return staff("view_webhookdelivery", "change_webhookdelivery")


@pytest.fixture
def stored(clerk: WebhookSender) -> WebhookDelivery:
    event = clerk.event("organization.updated", data={"id": "org_1", "name": SCRIPT})
    assert clerk.send(event, "msg_1").status_code == 204
    return WebhookDelivery.objects.get()


def listed(client: Client, query: str = "") -> set[str]:
    response = client.get(f"{CHANGELIST}{query}")
    assert response.status_code == 200
    return {delivery.svix_id for delivery in response.context["cl"].result_list}


def replay(client: Client, *deliveries: WebhookDelivery) -> list[tuple[str, str]]:
    """Run the action and return what it says."""
    selected = [delivery.pk for delivery in deliveries]
    response: Any = client.post(
        CHANGELIST, {"action": "process_again", "_selected_action": selected, "index": 0}
    )
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"msg_1", "msg_2"}),
        ("?q=msg_2", {"msg_2"}),
        ("?q=org_1", {"msg_1"}),
        ("?q=org_", set()),
        ("?status__exact=ignored", {"msg_2"}),
        ("?event_type=organization.updated", {"msg_1"}),
        ("?event_type=other", {"msg_2"}),
    ],
)
def test_list_is_searched_and_filtered(
    clerk: WebhookSender, stored: WebhookDelivery, viewer: Client, query: str, expected: set[str]
) -> None:
    clerk.send(clerk.event("session.created"), "msg_2")
    assert listed(viewer, query) == expected


def test_list_reads_no_payload_and_takes_the_same_statements_for_many(
    clerk: WebhookSender, stored: WebhookDelivery, viewer: Client
) -> None:
    for_one = statements_of_list(viewer)
    for number in range(20):
        clerk.send(clerk.event(), f"msg_many_{number}")
    assert len(statements_of_list(viewer)) == len(for_one)
    assert not any('"payload"' in statement for statement in for_one)


def statements_of_list(client: Client, query: str = "") -> list[str]:
    return statements_of(lambda: listed(client, query))


@pytest.fixture
def many(transactional_db: None) -> int:
    """More deliveries than are counted for a page, and statistics that know of them."""
    count = LARGE + 1
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO webhook_deliveries (svix_id, event_type, organization_id, payload)"
            " SELECT 'msg_' || n, 'organization.updated', 'org_' || n, '{}' FROM generate_series(1, %s) n",
            [count],
        )
        cursor.execute("ANALYZE webhook_deliveries")
    return count


def test_list_of_many_reads_one_page_of_the_table(viewer: Client, many: int) -> None:
    inbox = [sql for sql in statements_of_list(viewer) if 'FROM "webhook_deliveries"' in sql]

    size, page = inbox
    assert size.lstrip().startswith("SELECT CASE WHEN reltuples >= 10000 THEN")
    assert "LIMIT 50" in page
    assert "DISTINCT" not in page


def test_list_of_many_has_all_its_pages(viewer: Client, many: int) -> None:
    assert viewer.get(CHANGELIST).context["cl"].result_count == many
    assert listed(viewer, f"?p={many // 50 + 1}") == {"msg_1"}


@pytest.mark.parametrize("query", ["?event_type=other", "?q=org_7"])
def test_list_of_few_out_of_many_is_counted(viewer: Client, many: int, query: str) -> None:
    response = viewer.get(f"{CHANGELIST}{query}")
    assert response.context["cl"].result_count == len(listed(viewer, query))


def test_search_uses_indexes(viewer: Client, many: int) -> None:
    statements = statements_of_list(viewer, "?q=org_7")
    found = [sql for sql in statements if 'FROM "webhook_deliveries"' in sql and "EXPLAIN" not in sql]
    assert len(found) == 2, "the count and the page"
    for statement in found:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "webhook_deliveries_org" in plan
        assert "Seq Scan" not in plan


def test_detail_shows_payload_and_error_escaped_and_no_form(stored: WebhookDelivery, viewer: Client) -> None:
    WebhookDelivery.objects.update(status="failed", error=f"Traceback: {SCRIPT}")
    response = viewer.get(f"{CHANGELIST}{stored.pk}/change/")
    page = response.content.decode()
    assert response.status_code == 200
    assert "&quot;id&quot;: &quot;org_1&quot;" in page
    assert "Traceback: &lt;script&gt;" in page
    assert SCRIPT not in page
    assert 'name="_save"' not in page


def test_processing_time_is_shown_once_processed(stored: WebhookDelivery, viewer: Client) -> None:
    page = f"{CHANGELIST}{stored.pk}/change/"
    assert "0:00:00" not in viewer.get(page).content.decode()
    WebhookDelivery.objects.update(status="processed", processed_at=stored.received_at)
    assert "0:00:00" in viewer.get(page).content.decode()


@pytest.mark.parametrize("page", ["add/", "{pk}/change/", "{pk}/delete/"])
def test_nobody_adds_changes_or_deletes_deliveries(
    stored: WebhookDelivery, operator: Client, page: str
) -> None:
    path = CHANGELIST + page.format(pk=stored.pk)
    assert operator.post(path, {"svix_id": "msg_changed", "post": "yes"}).status_code == 403
    assert WebhookDelivery.objects.get().svix_id == "msg_1"


@pytest.mark.parametrize("status", ["received", "processed", "failed"])
def test_replay_enqueues_the_selected_and_says_how_many(
    stored: WebhookDelivery, operator: Client, status: str
) -> None:
    WebhookDelivery.objects.update(status=status)
    empty_queue()

    assert replay(operator, stored) == [("success", "Queued for the workers: 1 delivery.")]

    stored.refresh_from_db()
    assert (stored.status, is_queued(stored.id)) == ("received", True)


def test_replay_says_what_it_cannot_replay(
    clerk: WebhookSender, stored: WebhookDelivery, operator: Client
) -> None:
    clerk.send(clerk.event("session.created"), "msg_2")
    assert replay(operator, *WebhookDelivery.objects.all()) == [
        ("success", "Queued for the workers: 1 delivery."),
        ("warning", "Not queued, because only the envelope is stored: 1 delivery."),
    ]


def test_replay_of_all_across_pages_queues_all_in_the_same_statements(operator: Client, many: int) -> None:
    WebhookDelivery.objects.filter(svix_id__in=["msg_1", "msg_2"]).update(payload={"data": {}})
    for_few = statements_of(lambda: replay(operator, *WebhookDelivery.objects.filter(svix_id="msg_1")))
    WebhookDelivery.objects.update(status="failed", payload={"data": {}})

    for_many = statements_of(lambda: replay_all(operator))

    assert len(for_many) <= len(for_few)
    assert WebhookDelivery.objects.filter(status="received").count() == many


def statements_of(run: Callable[[], object]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        run()
    return [query["sql"] for query in captured.captured_queries]


def replay_all(client: Client) -> list[tuple[str, str]]:
    """Select everything, across pages."""
    first = WebhookDelivery.objects.values_list("pk", flat=True).first()
    response: Any = client.post(
        CHANGELIST,
        {"action": "process_again", "_selected_action": [first], "select_across": 1, "index": 0},
    )
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


def test_viewer_cannot_replay(stored: WebhookDelivery, viewer: Client) -> None:
    assert replay(viewer, stored) == []
    assert is_queued(stored.id)


@pytest.mark.parametrize(("user", "shown"), [("operator", True), ("viewer", False)])
def test_delivery_page_has_the_button_for_users_who_may_press_it(
    stored: WebhookDelivery, request: pytest.FixtureRequest, user: str, shown: bool
) -> None:
    client: Client = request.getfixturevalue(user)
    page = client.get(f"{CHANGELIST}{stored.pk}/change/").content.decode()

    assert ("Process again</button>" in page) is shown


def test_delivery_button_queues_the_delivery(stored: WebhookDelivery, operator: Client) -> None:
    WebhookDelivery.objects.update(status="failed", due_at=None)
    empty_queue()
    url = f"{CHANGELIST}{stored.pk}/process-again/"

    response: Any = operator.post(url, follow=True)

    assert "Queued for the workers: 1 delivery." in response.content.decode()
    assert is_queued(stored.id)
    assert operator.get(url).status_code == 405
    assert operator.post(f"{CHANGELIST}{stored.pk + 1}/process-again/").status_code == 404


def test_delivery_button_of_a_viewer_is_refused(stored: WebhookDelivery, viewer: Client) -> None:
    assert viewer.post(f"{CHANGELIST}{stored.pk}/process-again/").status_code == 403


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"error": f"Traceback:\n  line\nValueError: {SCRIPT}\n"}, "ValueError: &lt;script&gt;"),
        ({"error": "W" * 5000}, "W" * 160),
        ({"status": "failed", "due_at": None}, ">none<"),
        ({"claim": uuid4()}, "being processed"),
        ({"due_at": Now() - timedelta(hours=1)}, ">now<"),
    ],
)
def test_list_shows_the_reason_and_the_next_attempt(
    stored: WebhookDelivery, viewer: Client, columns: dict[str, Any], shown: str
) -> None:
    WebhookDelivery.objects.update(**columns)

    page = viewer.get(CHANGELIST).content.decode()

    assert shown in page
    assert SCRIPT not in page
    assert "W" * 161 not in page


@pytest.mark.parametrize("status", ["processed", "ignored"])
def test_list_shows_no_next_attempt_of_a_finished_delivery(
    stored: WebhookDelivery, viewer: Client, status: str
) -> None:
    WebhookDelivery.objects.update(status=status, due_at=Now())

    assert ">now<" not in viewer.get(CHANGELIST).content.decode()


def test_others_see_nothing(stored: WebhookDelivery) -> None:
    assert staff("view_tenant").get(CHANGELIST).status_code == 403
