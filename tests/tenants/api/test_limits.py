"""How many requests a caller may send, and what later requests are answered."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.checks import run_checks
from django.db import connection
from django.test import Client
from pytest_django import Settings

from clerk_integration.models import ClerkPace
from clerk_integration.tokens import api_keys
from clerk_integration.wire import pace
from tenants.batches.run import carry_out
from tenants.batches.steps import STEPS
from tenants.creation import create
from tenants.models import RequestCount
from tests.sandbox import SandboxControl
from tests.tenants.conftest import Caller

pytestmark = pytest.mark.django_db(transaction=True)

SYNC = "/tenants/{}/sync"


def test_list_above_the_limit_is_429_with_the_wait_and_without_a_call(
    sandbox: SandboxControl, ada: Caller, grace: Caller, settings: Settings
) -> None:
    settings.TENANT_LIST_LIMIT = "2/minute"
    assert [ada.tenants().status_code for _ in range(2)] == [200, 200]
    sandbox.clear_requests()

    response = ada.tenants()

    assert response.status_code == 429
    assert 50 <= int(response["Retry-After"]) <= 60
    [error] = response.json()["errors"]
    assert error["code"] == "throttled"
    assert "Only 2 requests of this kind may be sent in one minute" in error["detail"]
    assert sandbox.requests() == []
    assert grace.tenants().status_code == 200
    assert ada.get("/tenants/me/primary-id").status_code == 404


def test_both_lists_of_tenants_have_one_limit(ada: Caller, settings: Settings) -> None:
    settings.TENANT_LIST_LIMIT = "2/minute"

    assert [ada.get(path).status_code for path in ("/tenants", "/tenants/me/get-tenants") * 2] == [
        200,
        200,
        429,
        429,
    ]


def test_create_and_sync_have_limits_of_their_own(ada: Caller, settings: Settings) -> None:
    settings.TENANT_CREATE_LIMIT = settings.TENANT_SYNC_LIMIT = "1/hour"
    created = ada.create()
    assert created.status_code == 201
    path = SYNC.format(created.json()["id"])

    codes = [ada.create().status_code, *(ada.request("POST", path).status_code for _ in range(2))]

    assert codes == [429, 200, 429]
    assert ada.tenants().status_code == 200


def test_staff_have_a_limit_each(legacy: Callable[..., Any], settings: Settings) -> None:
    settings.TENANT_SYNC_LIMIT = "1/hour"
    path = "/api/v1" + SYNC.format(legacy().pk)
    allowed = Permission.objects.filter(codename__in=["view_tenant", "sync_tenant"])
    codes = []
    for name in ("one", "two"):
        user = User.objects.create(username=name, is_staff=True)
        user.user_permissions.set(allowed)
        client = Client()
        client.force_login(user)
        codes += [client.post(path).status_code for _ in range(2)]

    assert codes == [409, 429, 409, 429]  # 409: a legacy tenant has nothing to sync.


@pytest.mark.parametrize(("elapsed", "status_code"), [("59 seconds", 429), ("61 seconds", 200)])
@pytest.mark.parametrize("direction", ["-", "+"])
def test_period_ends_a_minute_after_its_first_request_also_if_the_clock_is_set_back(
    ada: Caller, settings: Settings, elapsed: str, status_code: int, direction: str
) -> None:
    settings.TENANT_LIST_LIMIT = "1/minute"
    ada.tenants()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE request_counts SET began_at = now() {direction} interval '{elapsed}'")

    assert ada.tenants().status_code == status_code


def test_limit_in_many_threads_is_exact(ada: Caller, settings: Settings) -> None:
    settings.TENANT_LIST_LIMIT = "10/hour"
    codes: list[int] = []

    def ask() -> None:
        codes.extend(ada.tenants().status_code for _ in range(4))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(codes) == [200] * 10 + [429] * 6
    assert RequestCount.objects.get().count == 16


def test_limit_of_none_sends_no_statement(ada: Caller, settings: Settings) -> None:
    settings.TENANT_LIST_LIMIT = "none"

    assert ada.tenants().status_code == 200
    assert not RequestCount.objects.exists()


def test_database_that_accepts_no_writes_limits_nobody(ada: Caller, settings: Settings) -> None:
    settings.TENANT_LIST_LIMIT = "1/hour"
    ada.tenants()
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        assert ada.tenants().status_code == 200
    finally:
        connection.close()


@pytest.mark.parametrize("limit", ["120", "0/minute", "ten/minute", "1/week", "-1/day"])
def test_malformed_limit_counts_as_the_default_and_is_named_by_a_check(
    ada: Caller, settings: Settings, limit: str
) -> None:
    settings.TENANT_LIST_LIMIT = limit

    assert ada.tenants().status_code == 200
    assert any(found.id == "clerk.E019" and "TENANT_LIST_LIMIT" in found.msg for found in run_checks())


def test_responses_are_private_also_if_they_are_errors(ada: Caller) -> None:
    responses = [ada.tenants(), ada.get("/tenants/me/primary-id"), Client().get("/api/v1/tenants/1")]

    assert [response["Cache-Control"] for response in responses] == ["private"] * 3


def test_counts_are_not_written_to_disk() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relpersistence FROM pg_class WHERE relname = 'request_counts'")
        assert cursor.fetchone() == ("u",)


@contextmanager
def paced_slots_postponed(seconds: float) -> Iterator[None]:
    """Let the next slot of the shared pace be free in `seconds`."""
    with pace.paced():
        pace.postpone(0)  # Gives up the slots that an earlier test has reserved.
        pace.use_slot()
        pace.postpone(seconds)
    yield
    with pace.paced():
        pace.postpone(0)  # Gives up the slots that the test has reserved.
    ClerkPace.objects.all().delete()


@pytest.fixture
def busy_pace() -> Iterator[None]:
    """Creations and batches use up their share of Clerk's limit for the next 20 seconds."""
    with paced_slots_postponed(20):
        yield


@pytest.mark.usefixtures("busy_pace")
def test_create_while_the_shared_pace_is_used_up_is_refused_and_the_list_is_answered(
    sandbox: SandboxControl, ada: Caller
) -> None:
    refused, listed = ada.create(), ada.tenants()

    assert refused.status_code == 500
    assert refused.json()["errors"][0]["code"] == "clerk_rate_limited"
    assert 15 <= int(refused["Retry-After"]) <= 21
    assert (listed.status_code, listed["X-Clerk-Sync"]) == (200, "synced")
    assert all(request["method"] == "GET" for request in sandbox.requests())


@pytest.mark.usefixtures("busy_pace")
def test_batch_of_staff_while_the_shared_pace_is_used_up_stops_and_asks_nothing(
    sandbox: SandboxControl, legacy: Callable[..., Any]
) -> None:
    organization = sandbox.organization()
    sandbox.clear_requests()

    tenants = [legacy(clerk_org_id=organization["id"]), legacy(clerk_org_id="org_other")]
    report = carry_out(STEPS["sync"], tenants, acting_user=None)

    assert (report.done, report.not_tried, len(report.failures)) == (0, 1, 1)
    assert "CLERK_RATE_LIMIT" in report.failures[0].reason
    assert sandbox.requests() == []


def test_api_key_that_clerk_must_verify_gives_way_to_a_creation(
    sandbox: SandboxControl,
    ada: Caller,
    client: Client,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert create.MAX_WAIT_SECONDS >= 2 * api_keys.MAX_WAIT_SECONDS
    monkeypatch.setattr(create, "MAX_WAIT_SECONDS", 30.0)  # A slow machine needs a wait that lasts longer.
    settings.CLERK_ACCEPT_API_KEYS = True
    key = sandbox.api_key(ada.id)["secret"]
    with paced_slots_postponed(4 * api_keys.MAX_WAIT_SECONDS):
        refused = client.get("/api/v1/tenants/me/primary-id", headers={"authorization": f"Bearer {key}"})
        created = ada.create()

    assert refused.json()["errors"][0]["code"] == "clerk_rate_limited"
    assert created.status_code == 201
